"""Optimizers that rules follow: their parameters, wrappers of them, and what counts as a step."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn, optim

from structmat import InputError
from structmat.nn import (
    Anneal,
    AnnealLinear,
    AnnealWeight,
    BudgetProjection,
    Config,
    GaudiConv2d,
    GaudiLinear,
    GaudiWeight,
    MeanShrink,
    SigmaSchedule,
    SoftThreshold,
    convert_,
    freeze_,
    parameter_groups,
)
from structmat.nn.training.for_trainers import Rules


def gaudi_layer():
    return GaudiLinear(12, 12, budget=0.5)


def anneal_layer():
    return AnnealLinear(AnnealWeight(torch.randn(12, 12) / 12, cap=43), torch.zeros(12))


@dataclass(frozen=True)
class Case:
    """A rule, the layers that it takes, their `learn`, and the name of their first contents."""

    make: Callable
    layer: Callable = gaudi_layer
    learn: str | bool = "gaudi"
    contents: str = "u"

    def __call__(self, model, optimizer):
        return self.make(model, optimizer)

    def network(self):
        return network(self.layer)

    def words(self, pattern):
        """A pattern with the name of this case's contents in place of u."""
        return pattern.replace(r"matrix\.u", rf"matrix\.{self.contents}")


RULES = {
    "anneal": Case(
        lambda m, o: Anneal(m, o, 0.3, 8, begin=0.0, every=0.2),
        anneal_layer, True, "weight",
    ),
    "projection": Case(lambda m, o: BudgetProjection(m, o, 0.3, 8, ramp=0.0)),
    "threshold": Case(lambda m, o: SoftThreshold(m, o, 1e-3)),
    "mean": Case(lambda m, o: MeanShrink(m, o, 0.1)),
    "sigma": Case(lambda m, o: SigmaSchedule(m, o, 8)),
}  # fmt: skip
rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def network(layer=gaudi_layer):
    torch.manual_seed(0)
    return nn.Sequential(layer(), nn.Tanh(), nn.Linear(12, 12), layer())


def adam(parameters, **options):
    return optim.AdamW(parameters, lr=1e-2, **options)


def train(model, step, count=1):
    for _ in range(count):
        model.zero_grad()
        p = next(model.parameters())
        model(torch.ones(3, 12, dtype=p.dtype)).square().sum().backward()
        step()


def contents(model):
    learning = [w for w in model.modules() if isinstance(w, GaudiWeight | AnnealWeight)]
    return [p for w in learning for p in w.parameters(recurse=False)]


def runs(model):
    weights = [w for w in model.modules() if isinstance(w, GaudiWeight)]
    return [p for w in weights for p in w.structure.parameters()]


def content(rule, model, layer=0):
    return getattr(model[layer].matrix, rule.contents)


# Mistakes that are there when the rule is made.


def lacking(rule, *left_out):
    """A network, and an optimizer without some of its parameters."""
    model = rule.network()
    return model, adam([p for n, p in model.named_parameters() if n not in left_out])


def lacking_a_layer(rule):
    return lacking(rule, *(n for n, _ in rule.network().named_parameters() if n.startswith("3")))


def of_another_model(rule):
    return rule.network(), adam(nn.Linear(3, 3).parameters())


def made_before_the_conversion(rule):
    model = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 12))
    optimizer = adam(model.parameters())
    convert_(model, Config(kind="gblr", learn=rule.learn, budget=0.5, min_features=1))
    return model, optimizer


def made_before_one_of_two_conversions(rule):
    model = rule.network()
    optimizer = adam(model.parameters())
    model[2] = rule.layer()
    return model, optimizer


def after_assigning(rule):
    model = rule.network()
    optimizer = adam(model.parameters())
    model.load_state_dict(rule.network().state_dict(), assign=True)
    return model, optimizer


def without_layers(_rule):
    return nn.Linear(2, 2), adam(nn.Linear(2, 2).parameters())


def of_a_copy(rule):
    model = rule.network()
    return optim.swa_utils.AveragedModel(model), adam(model.parameters())


class Lookahead(optim.Optimizer):
    """A wrapper that writes after the step, and does not call the constructor of its base."""

    def __init__(self, optimizer):
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups

    def step(self, closure=None):
        self.optimizer.step()


class Wrapper:
    def __init__(self, optimizer):
        self.base_optimizer = optimizer


class NoConstructor(optim.SGD):
    def __init__(self, parameters):
        self.param_groups = [{"params": list(parameters)}]

    def step(self, closure=None):
        pass


class Trainer:
    def __init__(self, optimizers):
        self.optimizers = optimizers


def instead(make):
    def mistake(rule):
        model = rule.network()
        return model, make(adam(model.parameters()))

    return mistake


MISTAKES = {
    "contents": (
        lambda rule: lacking(rule, f"0.matrix.{rule.contents}"),
        r"lacks 0\.matrix\.u, of",
    ),
    "a layer": (lacking_a_layer, r"lacks 3\.matrix\.u, (3\.matrix\.v|of 2)"),
    "another model": (of_another_model, "made after the conversion"),
    "a copy": (of_a_copy, r"lacks module\.0\.matrix\.u"),
    "before the conversion": (made_before_the_conversion, "made after the conversion"),
    "before one of them": (made_before_one_of_two_conversions, r"lacks 2\.matrix\.u"),
    "assigned": (after_assigning, r"lacks 0\.matrix\.u"),
    "no layers": (
        without_layers,
        "no (Gaudi layers|layers with a (Anneal|Gaudi)Weight); expected at least one",
    ),
    "schedule": (instead(lambda o: optim.lr_scheduler.StepLR(o, 1)), "StepLR.*its attribute"),
    "swa": (instead(lambda o: optim.swa_utils.SWALR(o, 0.1)), "SWALR.*schedule"),
    "scaler": (instead(lambda o: torch.amp.GradScaler("cpu")), "GradScaler, which scales"),
    "class": (instead(type), "the class AdamW"),
    "none": (instead(lambda o: None), "NoneType"),
    "name": (instead(lambda o: "adam"), "is a str"),
    "step": (instead(lambda o: o.step), "expected a torch.optim.Optimizer"),
    "nothing": (instead(lambda o: []), "an empty list"),
    "trainer": (
        instead(lambda o: Trainer([o])),
        r"a Trainer; expected its optimizers \(pass \.opt",
    ),
    "parameters": (instead(lambda o: o.param_groups[0]["params"]), "is a Parameter"),
    "groups": (instead(lambda o: o.param_groups), "is a dict"),
    "lookahead": (instead(Lookahead), r"Lookahead around a AdamW.*attribute \.optimizer"),
    "wrapper": (instead(Wrapper), r"Wrapper around a AdamW.*attribute \.base_optimizer"),
    "no constructor": (
        lambda rule: (m := rule.network(), NoConstructor(m.parameters())),
        r"whose constructor calls torch\.optim\.Optimizer\.__init__",
    ),
    "mixed list": (instead(lambda o: [o, optim.lr_scheduler.StepLR(o, 1)]), "a StepLR"),
}


@rules
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_and_change_nothing(rule, mistake):
    make, words = MISTAKES[mistake]
    model, optimizer = make(rule)
    weights = [w for w in model.modules() if isinstance(w, GaudiWeight)]
    before = [p.detach().clone() for p in model.parameters()], [w.sigma for w in weights]
    with pytest.raises(InputError, match=rule.words(words)):
        rule(model, optimizer)
    same = all(torch.equal(p, q) for p, q in zip(model.parameters(), before[0], strict=True))
    assert same
    assert [w.sigma for w in weights] == before[1]
    if isinstance(optimizer, optim.AdamW):
        assert not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize(("structure", "name"), [("anneal", "anneal"), ("gaudi", "projection")])
def test_the_rules_of_trainers_are_as_strict(structure, name):
    case = RULES[name]
    model, optimizer = lacking(case, f"0.matrix.{case.contents}")
    rules = Rules(0.3, structure, None, None, None)
    with pytest.raises(InputError, match=case.words(r"lacks 0\.matrix\.u")):
        rules.begin(model, optimizer, 8)
    assert not rules.metrics()
    rules.begin(model, [optimizer, adam([content(case, model)])], 8)
    assert rules.metrics()["structure_cost"] > 0


@pytest.mark.parametrize("name", [n for n in RULES if n != "anneal"])
@pytest.mark.parametrize("of", ["row_width", "col_location"])
def test_widths_and_locations_are_followed(name, of):
    with pytest.raises(InputError, match=rf"lacks 3\.matrix\.structure\.{of}"):
        RULES[name](*lacking(RULES[name], f"3.matrix.structure.{of}"))


# Changes of the model afterwards.


def assign(rule, model):
    model.load_state_dict(rule.network().state_dict(), assign=True)


def replace_layer(rule, model):
    model[3] = rule.layer()


def replace_parameter(rule, model):
    own = nn.Parameter(content(rule, model).detach().clone())
    setattr(model[0].matrix, rule.contents, own)


def drop_layer(_rule, model):
    model[3] = nn.Linear(12, 12)


def freeze(_rule, model):
    freeze_(model)


def add_layer(rule, model):
    model[2] = rule.layer()


def overwrite(_rule, model):
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        model.double()
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


CHANGES = {
    "assign": (assign, r"0\.matrix\.u, .* came after"),
    "layer": (replace_layer, r"3\.matrix\.u(, 3\.matrix\.v| came)"),
    "parameter": (replace_parameter, r"0\.matrix\.u came after"),
    "dropped": (drop_layer, "some layers went"),
    "frozen": (freeze, "some layers went"),
    "converted": (add_layer, r"2\.matrix\.u"),
    "overwritten": (overwrite, "came after"),
}


@rules
@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_changed_is_refused_before_the_step(rule, change):
    apply, words = CHANGES[change]
    model = rule.network()
    optimizer = adam(model.parameters())
    made = rule(model, optimizer)
    train(model, optimizer.step)
    apply(rule, model)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(InputError, match=rule.words(words) + r"(.|\n)*remove\(\)"):
        train(model, optimizer.step)
    assert made.step == 1
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    made.remove()
    optimizer.step()  # no longer the rule's


@rules
def test_contents_that_begin_to_learn_have_to_be_in_the_optimizer(rule):
    model = rule.network()
    model[3].matrix.requires_grad_(False)
    optimizer = adam([p for p in model.parameters() if p.requires_grad])
    rule(model, optimizer)
    train(model, optimizer.step)
    content(rule, model, 3).requires_grad_()
    with pytest.raises(InputError, match=rule.words(r"lacks 3\.matrix\.u")):
        optimizer.step()
    optimizer.add_param_group({"params": [content(rule, model, 3)]})
    train(model, optimizer.step)


def test_widths_that_are_fixed_later_are_refused():
    model = network()
    optimizer = adam(model.parameters())
    RULES["projection"](model, optimizer)
    model[0].matrix.structure.row_width.requires_grad_(False)
    with pytest.raises(InputError, match=r"requires_grad of a width changed.*new rule"):
        train(model, optimizer.step)


# What is right.


class Decoupled(optim.AdamW):
    """Calls the step of its base, and writes after it and before."""

    def step(self, closure=None):
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.mul_(1.01)
            super().step(closure)
            for group in self.param_groups:
                for p in group["params"]:
                    p.mul_(1.01)


def one(make):
    def prepare(model):
        optimizer = make(model)
        return optimizer, optimizer.step

    return prepare


def each_part(model):
    inside = {id(p) for p in contents(model)}
    parts = [
        [p for p in model.parameters() if id(p) in inside],
        runs(model),
        [p for p in model.parameters() if id(p) not in inside | set(map(id, runs(model)))],
    ]
    optimizers = [adam(part) for part in parts if part]
    return optimizers, lambda: [o.step() for o in optimizers]


def in_the_backward_pass(model):
    optimizers = {p: adam([p]) for p in model.parameters()}
    for p in optimizers:
        p.register_post_accumulate_grad_hook(lambda p: optimizers[p].step())
    return optimizers.values(), lambda: None


def lbfgs(model):
    optimizer = optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(3, 12)).square().sum()
        loss.backward()
        return loss

    return optimizer, lambda: optimizer.step(closure)


def scaled(model):
    optimizer, scaler = adam(model.parameters()), torch.amp.GradScaler("cpu", init_scale=1.0)
    scaler.scale(torch.zeros(()))

    def step():
        scaler.step(optimizer)
        scaler.update()

    return optimizer, step


def scheduled(model):
    optimizer = adam(model.parameters())
    optim.lr_scheduler.StepLR(optimizer, 1)
    return optimizer, optimizer.step


def accelerated(model):
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed (extra hf)")
    prepared = accelerate.Accelerator(cpu=True).prepare(adam(model.parameters()))
    return prepared, prepared.step


OPTIMIZERS = {
    "adamw": one(lambda m: adam(m.parameters())),
    "groups": one(lambda m: optim.AdamW(parameter_groups(m, lr=1e-2, structure_lr=1e-2))),
    "fused": one(lambda m: adam(m.parameters(), fused=True)),
    "foreach": one(lambda m: adam(m.parameters(), foreach=True)),
    "sgd": one(lambda m: optim.SGD(m.parameters(), lr=1e-3, momentum=0.9)),
    "lbfgs": lbfgs,
    "subclass": one(lambda m: Decoupled(m.parameters(), lr=1e-2)),
    "each part": each_part,
    "in backward": in_the_backward_pass,
    "scaled": scaled,
    "scheduled": scheduled,
    "accelerate": accelerated,
}


@rules
@pytest.mark.parametrize("prepare", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_one_action_for_each_step(rule, prepare):
    optim.AdamW([nn.Parameter(torch.zeros(1))])  # so that torch has hooked the base of all
    model = rule.network()
    optimizer, step = prepare(model)
    made, seen = rule(model, optimizer), []
    made._hook._update, update = lambda: (seen.append(made.step), update()), made._hook._update
    train(model, step, 3)
    assert seen == [1, 2, 3]
    if isinstance(made, BudgetProjection | Anneal):
        cost = sum(w.cost for w in made.weights)
        assert cost <= made.cap(3)


@rules
def test_frozen_contents_are_legal(rule):
    model = rule.network()
    content(rule, model).requires_grad_(False)
    for p in model[3].parameters():
        p.requires_grad_(False)
    optimizer = adam([p for p in model.parameters() if p.requires_grad])
    made = rule(model, optimizer)
    # Projections bring a weight under its cap, trained or not.
    fixed = [p for n, p in model[3].named_parameters() if n != "matrix.weight"]
    frozen = [p.clone() for p in fixed]
    train(model, optimizer.step, 2)
    assert made.step == 2
    assert all(map(torch.equal, fixed, frozen))


@rules
@pytest.mark.parametrize("change", [nn.Module.double, lambda m: m.to("cpu", torch.float64)])
def test_a_model_that_moves_keeps_its_parameters(rule, change):
    model = rule.network()
    optimizer = adam(model.parameters())
    made = rule(model, optimizer)
    change(model)
    train(model, optimizer.step, 2)
    assert made.step == 2


def test_accumulated_and_skipped_steps_do_not_count():
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed (extra hf)")
    model = network(anneal_layer)
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    model, optimizer = accelerator.prepare(model, adam(model.parameters()))
    rule = Anneal(model, optimizer, 0.3, 8)
    for _ in range(6):
        with accelerator.accumulate(model):
            accelerator.backward(model(torch.ones(3, 12)).square().sum())
            optimizer.step()
            optimizer.zero_grad()
    assert rule.step == 3


def test_a_step_that_raises_leaves_the_count_right():
    optim.AdamW([nn.Parameter(torch.zeros(1))])
    model = network()
    optimizer = Decoupled(model.parameters(), lr=1e-2)
    rule = SigmaSchedule(model, optimizer, 8)

    def closure():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        optimizer.step(closure)
    train(model, optimizer.step, 2)
    assert rule.step == 2


def test_of_several_only_those_of_gaudi_layers_have_to_step():
    model = network()
    inside = {id(p) for p in (*contents(model), *runs(model))}
    own = adam([p for p in model.parameters() if id(p) in inside])
    other = adam([p for p in model.parameters() if id(p) not in inside])
    rule = SigmaSchedule(model, [own, other], 8)
    train(model, other.step)
    assert rule.step == 0
    train(model, own.step, 2)
    assert rule.step == 2


def test_moments_are_forgotten_by_the_optimizer_that_has_the_contents():
    model = network(anneal_layer)
    optimizers, step = each_part(model)
    rule = Anneal(model, optimizers, 0.3, 8)
    train(model, step, 2)
    for weight in contents(model):
        (state,) = [o.state for o in optimizers if weight in o.state]
        assert state[weight]["exp_avg_sq"].any()
        rule._hook.followed.forget(weight)
        assert not any(value.any() for value in state[weight].values())


def test_convolutions_are_followed():
    model = GaudiConv2d(4, 4, 3, form="taps", shared_masks=True)
    p = model.taps[4].u
    with pytest.raises(InputError, match=r"lacks taps\.4\.u, of \d+"):
        BudgetProjection(model, adam([q for q in model.parameters() if q is not p]), 0.3, 8)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_step_counts_or_is_refused_by_torch():
    model = network()
    optimizer = adam(model.parameters())
    rule = SigmaSchedule(model, optimizer, 8)
    train(model, torch.compile(optimizer.step, backend="eager"), 3)
    assert rule.step == 3


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch's own imports
def test_a_sharded_state_counts_once(tmp_path):
    distributed = pytest.importorskip("torch.distributed", reason="torch has no distributed part")
    if not distributed.is_available():
        pytest.skip("torch was built without distributed")
    from torch.distributed.optim import ZeroRedundancyOptimizer

    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        model = network()
        optimizer = ZeroRedundancyOptimizer(model.parameters(), optim.AdamW, lr=1e-2)
        rule = BudgetProjection(model, optimizer, 0.3, 8, ramp=0.0)
        train(model, optimizer.step, 3)
        assert rule.step == 3
        assert math.isclose(rule.relative_cost, 0.3, abs_tol=0.05)
        model = network(anneal_layer)
        optimizer = ZeroRedundancyOptimizer(model.parameters(), optim.AdamW, lr=1e-2)
        with pytest.raises(InputError, match=r"one process alone; .*take torch's own optimizer"):
            Anneal(model, optimizer, 0.3, 8)
    finally:
        distributed.destroy_process_group()


@rules
def test_pieces_of_flat_parameters_are_refused(rule):
    model = rule.network()
    optimizer = adam(model.parameters())
    next(model.parameters())._fsdp_flattened = True  # as FSDP1 marks them
    with pytest.raises(InputError, match=r"pieces of flat tensors; .*take fully_shard"):
        rule(model, optimizer)


def in_fsdp1(_rank):
    """Wrap networks by FSDP1 itself, whose traces in a process would disturb later forks."""
    from torch import distributed
    from torch.distributed.fsdp import FullyShardedDataParallel

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    for rule, own_shapes in itertools.product(RULES.values(), (True, False)):
        inner = rule.network()
        model = FullyShardedDataParallel(
            inner, use_orig_params=own_shapes, device_id=torch.device("cpu")
        )
        for given in (inner, model):
            with pytest.raises(InputError, match="pieces of flat tensors"):
                rule(given, adam(model.parameters()))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_fsdp1_itself_is_refused():
    torch.multiprocessing.spawn(in_fsdp1)


@rules
def test_a_gradient_scaler_is_refused_with_the_remedy(rule):
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    with pytest.raises(InputError, match="GradScaler, which scales gradients; expected the"):
        rule(rule.network(), scaler)


def test_contents_may_have_a_rate_of_their_own():
    model = network()
    rest, inside, own = parameter_groups(model, lr=1e-3, structure_lr=1e-2, contents_lr=1e-4)
    assert [group["lr"] for group in (rest, inside, own)] == [1e-3, 1e-4, 1e-2]
    assert {id(p) for p in inside["params"]} == {id(p) for p in contents(model)}
