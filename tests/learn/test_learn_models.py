"""The networks of `structmat learn`: sizes as published, shapes, gradients, refusals."""

import importlib

import pytest

from structmat.errors import InputError

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional
models = importlib.import_module("structmat.learn.models")
MODELS, build_model = models.MODELS, models.build_model

CIFAR = (3, 32, 32)
IMAGE_MODELS = [name for name in MODELS if name != "gpt"]


def built(name, image=(1, 8, 8), seed=0, **options):
    torch.manual_seed(seed)
    if name == "gpt":
        return build_model(name, **options)
    return build_model(name, image=image, classes=10, **options)


def on_meta(name, image=CIFAR):
    """The full model without memory for its weights."""
    with torch.device("meta"):
        return built(name, image, size="full")


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def linear(n, m):
    return m * n + m


@pytest.fixture
def multiplications(monkeypatch):
    """Count the multiplications of one pass; of attention, one product of the two."""
    total = 0

    def weight(module, inputs, output):
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    def spy(module, inputs, output):
        nonlocal total
        total += output.numel() // output.shape[1] * module.weight.numel()

    attend = F.scaled_dot_product_attention

    def attention(q, k, v, **options):
        nonlocal total
        total += q.numel() * k.shape[-2]
        return attend(q, k, v, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)

    def count(model, x):
        nonlocal total
        total = 0
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(weight)
            elif isinstance(module, nn.Conv2d):
                module.register_forward_hook(spy)
        model(x)
        return total

    return count


# Sizes.


def test_mlp_sizes():
    small, full = built("mlp"), built("mlp", (1, 28, 28), size="full")
    assert parameters(small) == linear(64, 256) + linear(256, 256) + linear(256, 10)
    assert parameters(full) == linear(784, 1024) + linear(1024, 1024) + linear(1024, 10)


def test_vit_is_vit_s4():
    model, d = on_meta("vit"), 768
    block = 2 * 2 * d + linear(d, 3 * d) + linear(d, d) + linear(d, 3 * d) + linear(3 * d, d)
    rest = linear(3 * 16, d) + 64 * d + 2 * d + linear(d, 10)
    assert parameters(model) == 8 * block + rest == 47_355_658
    assert model.blocks[0].attention.heads == 8


def test_vit_multiplications(multiplications):
    count = multiplications(on_meta("vit"), torch.zeros(1, *CIFAR, device="meta"))

    def by_hand(tokens):
        return 8 * (tokens * 10 * 768**2 + tokens**2 * 768) + 64 * 48 * 768 + 768 * 10

    assert count == by_hand(64)
    # The published figure counts a class token as well; the mean over patches needs none.
    assert by_hand(65) == pytest.approx(3.10e9, rel=2e-3)
    assert count == pytest.approx(3.10e9, rel=0.02)


def test_mixer_is_mixer_s4(multiplications):
    model, d, tokens = on_meta("mixer"), 512, 64
    token_mlp = linear(tokens, d // 2) + linear(d // 2, tokens)
    block = 2 * 2 * d + token_mlp + linear(d, 4 * d) + linear(4 * d, d)
    assert parameters(model) == 8 * block + linear(3 * 16, d) + 2 * d + linear(d, 10)
    count = multiplications(model, torch.zeros(1, *CIFAR, device="meta"))
    assert count == pytest.approx(1.21e9, rel=1e-3)


def test_resnet_is_resnet_18(multiplications):
    model = on_meta("resnet")

    def stage(inputs, outputs):
        norms = 2 * outputs * (4 if inputs == outputs else 5)
        shortcut = 0 if inputs == outputs else inputs * outputs
        return 9 * inputs * outputs + 3 * 9 * outputs**2 + shortcut + norms

    stages = stage(64, 64) + stage(64, 128) + stage(128, 256) + stage(256, 512)
    assert parameters(model) == 3 * 9 * 64 + 2 * 64 + stages + linear(512, 10) == 11_173_962
    # 32x32 pixels, halved three times.
    count = multiplications(model, torch.zeros(1, *CIFAR, device="meta"))
    halved = [
        (9 * a * b + 27 * b * b + (a != b) * a * b) * (32 >> i) ** 2
        for i, (a, b) in enumerate([(64, 64), (64, 128), (128, 256), (256, 512)])
    ]
    assert count == 27 * 64 * 32**2 + sum(halved) + 512 * 10


def test_gpt_sizes():
    model, d = built("gpt", size="full"), 384
    block = 2 * 2 * d + linear(d, 3 * d) + linear(d, d) + linear(d, 4 * d) + linear(4 * d, d)
    assert parameters(model) == 256 * d + 256 * d + 6 * block + 2 * d == 10_844_160
    small = built("gpt")
    assert small.positions.shape == (128, 128)
    assert len(small.blocks) == 2


@pytest.mark.parametrize("name", MODELS)
def test_small_is_much_smaller(name):
    assert parameters(built(name)) < parameters(built(name, size="full")) / 2


# What the models do.


@pytest.mark.parametrize("size", ["small", "full"])
@pytest.mark.parametrize("image", [(1, 8, 8), (1, 28, 28), CIFAR], ids=str)
@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_images_to_logits(name, image, size):
    with torch.device("meta"):
        model = built(name, image, size=size)
        assert model(torch.zeros(3, *image)).shape == (3, 10)


@pytest.mark.parametrize("length", [1, 7, 128])
def test_tokens_to_logits(length):
    assert built("gpt")(torch.zeros(2, length, dtype=torch.int64)).shape == (2, length, 256)
    short = built("gpt", vocabulary=20, context=length)
    assert short(torch.zeros(2, length, dtype=torch.int64)).shape == (2, length, 20)


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_decides_the_start(name):
    first, again, other = (built(name, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def example(name):
    generator = torch.Generator().manual_seed(3)
    if name == "gpt":
        return torch.randint(256, (4, 128), generator=generator)
    return torch.randn(4, 1, 8, 8, generator=generator)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_every_parameter(name):
    model = built(name)
    logits = model(example(name))
    logits.log_softmax(-1)[..., 3].mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", MODELS)
def test_examples_of_a_batch_do_not_meet(name):
    model = built(name).eval()
    x = example(name)
    alone = torch.cat([model(row[None]) for row in x])
    torch.testing.assert_close(model(x), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mixer", "vit"])
def test_places_of_patches_matter(name):
    model, x = built(name).eval(), example(name)
    moved = x.roll(4, -1)  # whole patches, so that only their places change
    assert not torch.allclose(model(x), model(moved), atol=1e-5)


def test_gpt_is_causal():
    model, tokens = built("gpt"), example("gpt")
    changed = tokens.clone()
    changed[:, 50] = (changed[:, 50] + 1) % 256
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :50], after[:, :50])
    torch.testing.assert_close(before[:, :50], model(tokens[:, :50]))
    # Every later place sees the change.
    assert ((before - after)[:, 50:].abs().amax(-1) > 1e-6).all()


def test_gpt_shares_its_head():
    model = built("gpt")
    assert [k for k, p in model.named_parameters() if p.shape == (256, 128)] == ["tokens.weight"]
    stored = [p.data_ptr() for p in model.state_dict().values()]
    assert len(stored) == len(set(stored))
    # Tokens that the input lacks learn through the head alone.
    model(torch.zeros(1, 5, dtype=torch.int64)).sum().backward()
    assert (model.tokens.weight.grad[1:] != 0).any(1).all()


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_in_linear_and_conv2d(name):
    homes = nn.Linear | nn.Conv2d | nn.Embedding
    for path, module in built(name).named_modules():
        own = dict(module.named_parameters(recurse=False))
        large = [key for key, p in own.items() if p.ndim > 1 and key != "positions"]
        assert not large or isinstance(module, homes), path


@pytest.mark.parametrize("name", MODELS)
def test_layers_are_called_and_never_looked_into(name):
    # What a converter puts in place of a layer need not have its attributes.
    model, x = built(name).eval(), example(name)
    expected = model(x)

    class Opaque(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.call = [layer]  # in a list, so that it is no submodule

        def forward(self, x):
            return self.call[0](x)

    for module in list(model.modules()):
        for key, child in list(module.named_children()):
            if isinstance(child, nn.Linear | nn.Conv2d):
                setattr(module, key, Opaque(child))
    torch.testing.assert_close(model(x), expected)


def test_attention_is_softmax_of_products():
    model, x = built("vit").blocks[0].attention, torch.randn(2, 5, 128)
    q, k, v = model.qkv(x).chunk(3, -1)
    heads = []
    for part in range(4):
        at = slice(32 * part, 32 * part + 32)
        weights = (q[..., at] @ k[..., at].mT / 32**0.5).softmax(-1)
        heads.append(weights @ v[..., at])
    expected = model.proj(torch.cat(heads, -1))
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


# Refusals.


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("transformer", {}, "'transformer'; expected one of mlp, mixer, vit, resnet, gpt"),
        ("mlp", {"size": "huge"}, "size = 'huge'; expected small or full"),
        ("mlp", {"size": {"deep": 9}}, r"size of mlp names \['deep'\]; expected among"),
        ("gpt", {"image": (1, 8, 8)}, "which does not take images.*choose an image model"),
        ("gpt", {"classes": 10}, "classes = 10 with gpt.*leave it out"),
        ("gpt", {"vocabulary": 1}, "vocabulary = 1; expected an integer of at least 2"),
        ("gpt", {"context": 0}, "context = 0; expected an integer of at least 1"),
        ("vit", {"classes": 10}, "image = None; vit expected channels.*choose 'gpt'"),
        ("vit", {"image": (8, 8), "classes": 10}, r"image = \(8, 8\)"),
        ("vit", {"image": (1, 8, 0), "classes": 10}, "a length of image = 0"),
        ("vit", {"image": (1, 8, 8.0), "classes": 10}, "a length of image = 8.0"),
        ("vit", {"image": (1, 8, 8)}, "classes = None; expected an integer of at least 2"),
        ("vit", {"image": (1, 8, 8), "classes": 1}, "classes = 1;"),
        ("vit", {"image": (1, 8, 10), "classes": 10}, "8x10 pixels.*multiples of 4"),
        ("mixer", {"image": (1, 30, 32), "classes": 10}, "30x32 pixels.*pad or crop"),
        ("resnet", {"vocabulary": 256}, "vocabulary = 256 with resnet.*choose 'gpt'"),
        ("mlp", {"image": (1, 8, 8), "classes": 10, "context": 8}, "context = 8 with mlp"),
    ],
)
def test_refusals(name, options, message):
    with pytest.raises(InputError, match=message):
        build_model(name, **options)


def test_gpt_refuses_more_than_its_context():
    with pytest.raises(InputError, match="17 tokens; expected at most 16, the context"):
        built("gpt", context=16)(torch.zeros(1, 17, dtype=torch.int64))


def test_networks_pickled_by_version_0_1_are_found():
    old = {"_MLP": "mlp", "_Mixer": "mixer", "_VisionTransformer": "vit", "_ResNet": "resnet"}
    for name, model in (old | {"_GPT": "gpt"}).items():
        assert type(built(model)) is getattr(models, name)
