"""Data to learn from: every form is read exactly, and whatever is wrong with it is named."""

import gzip
import hashlib
import io
import lzma
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structmat.errors import FileFormatError, InputError, MissingDependencyError, StructmatError
from structmat.learn.data import DATASETS, Images, Text, load_data
from structmat.learn.data.files import reading

SHARED = Path(__file__).parents[3] / "shared" / "data"

FASHION = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
FOLDERS = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}
ARCHIVES = {"cifar10": "cifar-10-binary.tar.gz", "cifar100": "cifar-100-binary.tar.gz"}
TESTS = {"cifar10": "test_batch.bin", "cifar100": "test.bin"}
NAMES = {"cifar10": "batches.meta.txt", "cifar100": "fine_label_names.txt"}
CLASSES = {"cifar10": 10, "cifar100": 100}


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def real(path):
    if not (SHARED / path).exists():
        pytest.skip(f"needs {path} in ../shared/data, beside the repository")
    return SHARED


def refused(name, folder, match, error=FileFormatError, **options):
    with pytest.raises(error, match=match) as caught:
        load_data(name, folder, **options)
    assert isinstance(caught.value, StructmatError)
    assert "expected" in str(caught.value), "say what would have been right"


def check_images(data, name, classes):
    assert isinstance(data, Images)
    assert data.name == name
    assert len(data.classes) == classes
    for x, y in ((data.train_x, data.train_y), (data.test_x, data.test_y)):
        assert (x.dtype, y.dtype, x.ndim) == (np.uint8, np.int64, 4)
        assert y.shape == x.shape[:1]
        assert x.flags.c_contiguous
        assert x.flags.writeable  # torch warns about arrays that are not
        assert y.flags.writeable
    assert data.mean.dtype == data.std.dtype == np.float32
    assert data.note


# ---------------------------------------------------------------- the names and options


@pytest.mark.parametrize("name", ["cifar", "MNIST", "", None])
def test_an_unknown_name_lists_the_known(name):
    refused(
        name,
        None,
        r"one of digits, noisy-digits, fashion-mnist, cifar10, cifar100, text",
        InputError,
    )


@pytest.mark.parametrize("name", [n for n in DATASETS if "digits" not in n])
def test_a_folder_is_asked_for(name, tmp_path):
    refused(name, None, r"data_dir = None.*nothing is downloaded", InputError)
    refused(name, tmp_path / "nowhere", r"nowhere'; expected a folder", InputError)
    refused(name, tmp_path, r"holds no", InputError)


@pytest.mark.parametrize("limit", [0, -1, 1.5, "many"])
def test_a_limit_is_a_number_of_bytes(limit):
    refused("text", "anywhere", f"limit = {limit!r}; expected a number", InputError, limit=limit)


@pytest.mark.parametrize("name", [n for n in DATASETS if n != "text"])
def test_a_limit_goes_with_text(name):
    refused(name, "anywhere", f"limit = 5 for {name}", InputError, limit=5)


def test_an_error_without_words_is_named_by_its_type(tmp_path):
    wordless = pytest.raises(FileFormatError, match=r"cannot be read \(EOFError\)")
    with wordless, reading(tmp_path / "x", "bytes"):
        raise EOFError


def test_importing_loads_neither_torch_nor_readers():
    code = "import structmat.learn.data, sys; print(*{m.partition('.')[0] for m in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "sklearn", "PIL"}.isdisjoint(run.stdout.split())


# ---------------------------------------------------------------- digits


def test_digits_are_split_once_and_for_all():
    data = load_data("digits", "this folder is not used")
    check_images(data, "digits", 10)
    assert data.train_x.shape == (1257, 1, 8, 8)
    assert data.test_x.shape == (540, 1, 8, 8)
    assert repr(data) == "<Images digits: 1257 + 540 of 1x8x8, 10 classes>"
    digest = hashlib.sha256(data.test_x.tobytes() + data.test_y.tobytes()).hexdigest()
    assert digest == "3f68e61685b907d9a84aaf3cda965c735a62bc798b1b0f743d677581dd75537a"


def test_digits_are_all_there_and_evenly_split():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    data = load_data("digits")
    images = np.concatenate([data.train_x, data.test_x]).reshape(-1, 64)
    labels = np.concatenate([data.train_y, data.test_y])
    ours, theirs = (np.c_[a, b].astype(int).tolist() for a, b in ((images, labels), (x, y)))
    assert sorted(ours) == sorted(theirs)
    share = np.bincount(data.test_y) / np.bincount(y)
    np.testing.assert_allclose(share, 540 / 1797, atol=0.005)


def test_noisy_digits_are_the_digits_in_the_middle_of_noise():
    data, plain = load_data("noisy-digits"), load_data("digits")
    check_images(data, "noisy-digits", 10)
    assert repr(data) == "<Images noisy-digits: 1257 + 540 of 1x16x16, 10 classes>"
    around = np.ones((16, 16), bool)
    around[4:12, 4:12] = False
    for noisy, clean in ((data.train_x, plain.train_x), (data.test_x, plain.test_x)):
        assert np.array_equal(noisy[:, :, 4:12, 4:12], clean)
        counts = np.bincount(noisy[:, 0][:, around].ravel())
        np.testing.assert_allclose(counts / counts.sum(), np.full(17, 1 / 17), atol=2e-3)
    assert np.array_equal(data.train_y, plain.train_y)
    assert np.array_equal(data.test_y, plain.test_y)
    assert np.array_equal(data.test_x, load_data("noisy-digits").test_x)


@pytest.mark.parametrize("module", ["sklearn.datasets", "sklearn.model_selection"])
def test_without_scikit_learn_the_extra_is_named(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"scikit-learn is not.*structmat\[learn\]"):
        load_data("digits")


def test_pixels_become_standard_by_the_training_part():
    data = load_data("digits")
    pixels = data.train_x.astype(np.float64)
    np.testing.assert_allclose(data.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(data.std, pixels.std(axis=(0, 2, 3)), rtol=1e-6)
    standard = data.standardise(data.test_x[:3])
    assert standard.dtype == np.float32
    expected = (data.test_x[:3] - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(standard, expected, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- Fashion-MNIST


def idx(array, magic=None):
    header = [0x0800 + array.ndim if magic is None else magic, *array.shape]
    return np.array(header, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def fashion(rng):
    """The four arrays, by file name."""
    return {
        name: rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        if "images" in name
        else rng.integers(0, 10, n, dtype=np.uint8)
        for name, n in zip(FASHION, (6, 6, 4, 4), strict=True)
    }


@pytest.mark.parametrize("place", [".", "FashionMNIST/raw", "raw", "fashion-mnist", "data/fashion"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_fashion_mnist_is_read_exactly(fashion, place, ending, tmp_path):
    pack = gzip.compress if ending else bytes
    write(tmp_path / place, {name + ending: pack(idx(a)) for name, a in fashion.items()})
    data = load_data("fashion-mnist", tmp_path)
    check_images(data, "fashion-mnist", 10)
    arrays = (data.train_x[:, 0], data.train_y, data.test_x[:, 0], data.test_y)
    for name, array in zip(FASHION, arrays, strict=True):
        np.testing.assert_array_equal(array, fashion[name])
    assert data.train_x.shape == (6, 1, 28, 28)
    assert "MIT" in data.note
    assert "Here 6 training and 4 test images; published were 60000 and 10000" in data.note


@pytest.mark.parametrize("missing", FASHION)
def test_a_missing_idx_file_is_named(fashion, missing, tmp_path):
    write(tmp_path, {name: idx(a) for name, a in fashion.items() if name != missing})
    refused("fashion-mnist", tmp_path, f"lacks {missing}, plain or .gz", InputError)


BAD_IDX = {
    "wrong magic": (0, lambda a: idx(a, 0x0801), r"magic number is 0x00000801, not 0x00000803"),
    "magic of labels": (1, lambda a: idx(a, 0x0803), r"0x00000803, not 0x00000801"),
    "little-endian": (0, lambda a: idx(a, 0x03080000), r"magic number is 0x03080000"),
    "empty": (0, lambda a: b"", r"ends after 0 bytes, within its header"),
    "header cut": (0, lambda a: idx(a)[:11], r"ends after 11 bytes"),
    "pixels cut": (0, lambda a: idx(a)[:-1], r"4703 bytes for 6 items of shape \(28, 28\)"),
    "too long": (0, lambda a: idx(a) + b"x", r"4705 bytes for 6 items"),
    "labels cut": (1, lambda a: idx(a)[:-1], r"5 bytes for 6 items"),
    "other size": (0, lambda a: idx(a[:, :, :27].copy()), r"items have shape \(28, 27\)"),
    "fewer labels": (1, lambda a: idx(a[:5]), r"5 labels for 6 images of train-images"),
    "label 10": (3, lambda a: idx(np.array([0, 9, 10, 3], np.uint8)), r"image 2 has label 10, not"),
}


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("case", BAD_IDX)
def test_a_wrong_idx_file_is_refused(fashion, case, ending, tmp_path):
    which, spoil, match = BAD_IDX[case]
    pack = gzip.compress if ending else bytes
    files = {name + ending: pack(idx(a)) for name, a in fashion.items()}
    files[FASHION[which] + ending] = pack(spoil(fashion[FASHION[which]]))
    refused("fashion-mnist", write(tmp_path, files), match)
    refused("fashion-mnist", tmp_path, FASHION[which])


def test_fashion_mnist_without_images_is_refused(fashion, tmp_path):
    write(tmp_path, {name: idx(a[:0]) for name, a in fashion.items()})
    refused("fashion-mnist", tmp_path, r"holds no images")


@pytest.mark.parametrize("spoil", [lambda b: b[:-9], lambda b: b"no gzip", lambda b: b[:40]])
def test_a_broken_gzip_file_is_refused(fashion, spoil, tmp_path):
    files = {f"{name}.gz": gzip.compress(idx(a)) for name, a in fashion.items()}
    files[f"{FASHION[0]}.gz"] = spoil(files[f"{FASHION[0]}.gz"])
    refused("fashion-mnist", write(tmp_path, files), r"train-images.*cannot be read")


def test_a_channel_of_one_value_stays_finite(fashion, tmp_path):
    fashion[FASHION[0]][:] = 7
    write(tmp_path, {name: idx(a) for name, a in fashion.items()})
    data = load_data("fashion-mnist", tmp_path)
    assert (data.mean, data.std) == (7, 1)
    np.testing.assert_array_equal(data.standardise(data.train_x), 0)


# ---------------------------------------------------------------- CIFAR, the binary version


def cifar_parts(name, rng, train=10, test=4):
    """Images (N, 3, 32, 32) and labels of both parts."""
    return [
        (rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8), rng.integers(0, CLASSES[name], n))
        for n in (train, test)
    ]


def records(name, x, y):
    labels = [y] if name == "cifar10" else [y // 5, y]  # coarse, then fine
    columns = [*(label[:, None] for label in labels), x.reshape(len(x), -1)]
    return np.concatenate(columns, axis=1).astype(np.uint8).tobytes()


def binary_files(name, parts):
    (x, y), test = parts
    files = {TESTS[name]: records(name, *test)}
    if name == "cifar10":
        batches = zip(np.split(x, 5), np.split(y, 5), strict=True)
        files |= {f"data_batch_{i}.bin": records(name, *b) for i, b in enumerate(batches, 1)}
    else:
        files |= {"train.bin": records(name, x, y)}
    files[NAMES[name]] = "".join(f"class_{i}\n" for i in range(CLASSES[name])).encode() + b"\n"
    return files


def tar(files, links=()):
    """A gzipped tar of these members; links are (name, target)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return stream.getvalue()


def inside(name, files):
    return {f"{FOLDERS[name]}/{member}": content for member, content in files.items()}


def same(data, parts):
    for (x, y), got_x, got_y in zip(
        parts, (data.train_x, data.test_x), (data.train_y, data.test_y), strict=True
    ):
        np.testing.assert_array_equal(got_x, x)
        np.testing.assert_array_equal(got_y, y)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("form", ["folder", "itself", "archive"])
def test_the_binary_version_is_read_exactly(name, form, rng, tmp_path):
    parts = cifar_parts(name, rng)
    files = binary_files(name, parts)
    if form == "archive":
        write(tmp_path, {ARCHIVES[name]: tar(inside(name, files))})
    else:
        write(tmp_path / FOLDERS[name] if form == "folder" else tmp_path, files)
    before = sorted(tmp_path.rglob("*"))
    data = load_data(name, tmp_path)
    check_images(data, name, CLASSES[name])
    same(data, parts)
    assert data.classes[-1] == f"class_{CLASSES[name] - 1}"
    assert "no licence" in data.note
    assert "Here 10 training and 4 test images" in data.note
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked"


def test_statistics_are_those_of_each_channel(rng, tmp_path):
    parts = cifar_parts("cifar10", rng)
    data = load_data("cifar10", write(tmp_path, binary_files("cifar10", parts)))
    pixels = parts[0][0].astype(np.float64)
    np.testing.assert_allclose(data.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(data.std, pixels.std(axis=(0, 2, 3)), rtol=1e-6)
    standard = data.standardise(data.train_x)
    np.testing.assert_allclose(standard.mean(axis=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(standard.std(axis=(0, 2, 3)), 1, atol=1e-4)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "missing"),
    [("cifar10", "data_batch_3.bin"), ("cifar10", "batches.meta.txt"), ("cifar100", "test.bin")],
)
def test_a_missing_member_is_named(name, missing, packed, rng, tmp_path):
    files = binary_files(name, cifar_parts(name, rng))
    del files[missing]
    write(tmp_path, {ARCHIVES[name]: tar(inside(name, files))} if packed else files)
    refused(name, tmp_path, f"lacks {missing}; expected all files of the binary", InputError)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "member", "spoil", "match"),
    [
        ("cifar10", "data_batch_2.bin", lambda b: b[:-1], r"6145 bytes, which is no whole number"),
        ("cifar10", "data_batch_2.bin", lambda b: b"", r"data_batch_2.bin.*holds no images"),
        ("cifar10", "test_batch.bin", lambda b: b"\x0a" + b[1:], r"image 0 has label 10, not one"),
        ("cifar100", "train.bin", lambda b: b"\x00\x64" + b[2:], r"label 100, not one of 0 to 99"),
        ("cifar100", "train.bin", lambda b: b + b"\x00", r"no whole number of records"),
        ("cifar10", "batches.meta.txt", lambda b: b[:-9], r"has 9 names; |has 9 names\)"),
        ("cifar10", "batches.meta.txt", lambda b: b"\xff" + b, r"batches.meta.txt.*cannot be read"),
    ],
)
def test_a_wrong_member_is_refused(name, member, spoil, match, packed, rng, tmp_path):
    files = binary_files(name, cifar_parts(name, rng))
    files[member] = spoil(files[member])
    write(tmp_path, {ARCHIVES[name]: tar(inside(name, files))} if packed else files)
    refused(name, tmp_path, match)
    refused(name, tmp_path, member)


@pytest.mark.parametrize(
    "outside", ["../data_batch_1.bin", "/etc/data_batch_1.bin", "cifar-10-batches-bin/../../x"]
)
def test_an_archive_that_points_outside_is_refused(outside, rng, tmp_path):
    files = binary_files("cifar10", cifar_parts("cifar10", rng))
    content = tar({**inside("cifar10", files), outside: b""})
    write(tmp_path, {ARCHIVES["cifar10"]: content})
    refused("cifar10", tmp_path, r"lies outside of the archive")


def test_files_of_other_folders_of_an_archive_are_left_alone(rng, tmp_path):
    parts = cifar_parts("cifar10", rng)
    files = inside("cifar10", binary_files("cifar10", parts))
    files |= {"readme.html": b"", "old/data_batch_1.bin": b"x", "data_batch_2.bin": b"x"}
    write(tmp_path, {ARCHIVES["cifar10"]: tar(files)})
    same(load_data("cifar10", tmp_path), parts)


def test_a_link_in_an_archive_is_not_followed(rng, tmp_path):
    files = inside("cifar10", binary_files("cifar10", cifar_parts("cifar10", rng)))
    wanted = "cifar-10-batches-bin/data_batch_1.bin"
    files["elsewhere"] = files.pop(wanted)
    write(tmp_path, {ARCHIVES["cifar10"]: tar(files, [(wanted, "../elsewhere")])})
    refused("cifar10", tmp_path, r"data_batch_1.bin' is no plain file")


@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b[:-6], lambda b: b"tar?"])
def test_a_broken_archive_is_refused(spoil, rng, tmp_path):
    content = tar(inside("cifar10", binary_files("cifar10", cifar_parts("cifar10", rng))))
    write(tmp_path, {ARCHIVES["cifar10"]: spoil(content)})
    refused("cifar10", tmp_path, r"cifar-10-binary.tar.gz' cannot be read")


@pytest.mark.parametrize(
    ("name", "marker"),
    [
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar10", "cifar-10-batches-py/"),
        ("cifar100", "cifar-100-python.tar.gz"),
        ("cifar100", "cifar-100-python/"),
    ],
)
def test_the_version_made_of_pickles_is_refused(name, marker, tmp_path):
    place = tmp_path / marker
    if marker.endswith("/"):
        place.mkdir()
        refused(name, place, r"made of pickles", InputError)
    else:
        place.write_bytes(b"not even opened")
    refused(name, tmp_path, rf"made of pickles.*expected {ARCHIVES[name]}", InputError)


# ---------------------------------------------------------------- CIFAR, the container


def strip(images, form, **options):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    stream = io.BytesIO()
    pixels = images.transpose(0, 2, 3, 1).reshape(-1, 32, 3)
    image.fromarray(np.ascontiguousarray(pixels)).save(stream, form, **options)
    return stream.getvalue()


def jpeg(images):
    return strip(images, "JPEG", quality=95, subsampling=0)


def webp(images):
    return strip(images, "WEBP", lossless=True)


def container(name, parts, high=3):
    """Members of the container, strips of `high` images."""
    members = {"label_names": np.array([f"class_{i}" for i in range(CLASSES[name])])}
    for part, (x, y), pack in zip(("train", "test"), parts, (jpeg, webp), strict=True):
        strips = [pack(x[i : i + high]) for i in range(0, len(x), high)]
        members[f"{part}_data"] = np.frombuffer(b"".join(strips), np.uint8)
        members[f"{part}_off"] = np.cumsum([0, *map(len, strips)])
        members[f"{part}_labels"] = y.astype(np.uint8)
    return members


def npz(members):
    stream = io.BytesIO()
    np.savez(stream, **members)
    return stream.getvalue()


def smooth(parts):
    """The same parts with images that JPEG keeps well: grey slopes of several heights."""
    slope = np.add.outer(np.arange(32), 2 * np.arange(32)).astype(np.uint8)
    return [(np.zeros_like(x) + slope + (x[:, :1, :1, :1] // 2), y) for x, y in parts]


@pytest.mark.parametrize("name", FOLDERS)
def test_the_container_is_read(name, rng, tmp_path):
    parts = smooth(cifar_parts(name, rng))
    write(tmp_path, {f"{name}.npz": npz(container(name, parts))})
    data = load_data(name, tmp_path)
    check_images(data, name, CLASSES[name])
    np.testing.assert_array_equal(data.test_x, parts[1][0])
    assert np.abs(data.train_x.astype(int) - parts[0][0]).max() <= 6
    np.testing.assert_array_equal(data.train_y, parts[0][1])
    np.testing.assert_array_equal(data.test_y, parts[1][1])
    assert data.classes[3] == "class_3"
    assert "through JPEG and are only nearly exact; the test images are exact." in data.note


def test_the_container_says_how_many_test_images_are_inexact(rng, tmp_path):
    members = container("cifar10", cifar_parts("cifar10", rng))
    write(tmp_path, {"cifar10.npz": npz({**members, "test_inexact": np.array([1, 3])})})
    assert "so are 2 of the test images" in load_data("cifar10", tmp_path).note


def test_exact_images_are_preferred(rng, tmp_path):
    exact, near = (cifar_parts("cifar10", rng) for _ in range(2))
    write(tmp_path, {"cifar10.npz": npz(container("cifar10", near))})
    write(tmp_path, {ARCHIVES["cifar10"]: tar(inside("cifar10", binary_files("cifar10", exact)))})
    same(load_data("cifar10", tmp_path), exact)


def _shifted(members):
    return {**members, "test_off": members["test_off"] + 1}


def _narrow(members):
    return {**members, **_one_strip(np.zeros((4, 3, 32, 16), np.uint8))}


def _one_strip(images):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    stream = io.BytesIO()
    image.fromarray(images.transpose(0, 2, 3, 1).reshape(-1, images.shape[3], 3)).save(
        stream, "WEBP", lossless=True
    )
    data = np.frombuffer(stream.getvalue(), np.uint8)
    return {"test_data": data, "test_off": np.array([0, len(data)])}


def _grey(members):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    stream = io.BytesIO()
    image.fromarray(np.zeros((128, 32), np.uint8)).save(stream, "JPEG")
    data = np.frombuffer(stream.getvalue(), np.uint8)
    return {**members, "test_data": data, "test_off": np.array([0, len(data)])}


def _bomb(members):
    """A JPEG whose header claims four thousand million pixels."""
    content = bytearray(jpeg(np.zeros((4, 3, 32, 32), np.uint8)))
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = b"\xff" * 4
    data = np.frombuffer(bytes(content), np.uint8)
    return {**members, "test_data": data, "test_off": np.array([0, len(data)])}


def _without(name):
    return lambda members: {k: v for k, v in members.items() if k != name}


def _with(**changed):
    return lambda members: {**members, **changed}


def _cut(members):
    """Offsets that fit, and a last strip that ends too early."""
    end = members["train_off"][-1] - 40
    offsets = np.r_[members["train_off"][:-1], end]
    return {**members, "train_data": members["train_data"][:end], "train_off": offsets}


BAD_CONTAINER = {
    "no offsets": (_without("train_off"), r"train_off"),
    "no names": (_without("label_names"), r"label_names"),
    "nine names": (_with(label_names=np.array(["a"] * 9)), r"has 9 label_names"),
    "one name": (_with(label_names=np.array("abc")), r"has 1 label_names"),
    "pickled names": (_with(label_names=np.array(["a", None], object)), r"allow_pickle"),
    "float labels": (_with(train_labels=np.zeros(10)), r"holds float64 of shape \(10,\)"),
    "labels in a table": (_with(train_labels=np.zeros((10, 1), int)), r"int64 of shape \(10, 1\)"),
    "label 10": (_with(test_labels=np.full(4, 10)), r"image 0 has label 10"),
    "label -1": (_with(test_labels=np.full(4, -1)), r"image 0 has label -1"),
    "no labels": (_with(test_labels=np.zeros(0, int)), r"holds no images"),
    "more labels": (_with(test_labels=np.zeros(5, int)), r"5 labels for 4 images"),
    "fewer labels": (_with(test_labels=np.zeros(3, int)), r"up to 0 images"),
    "wide data": (lambda m: {**m, "test_data": m["test_data"].astype("u2")}, r"test_off does not"),
    "late start": (lambda m: {**m, "test_off": np.r_[1, m["test_off"][1:]]}, r"test_off does not"),
    "more data": (
        lambda m: {**m, "test_data": np.append(m["test_data"], np.uint8(0))},
        r"test_off does not go",
    ),
    "no strips": (_with(test_off=np.zeros(0, int)), r"test_off does not go from 0"),
    "shifted": (_shifted, r"test_off does not go from 0"),
    "falling": (lambda m: {**m, "test_off": m["test_off"][[0, 2, 1, 2]]}, r"test_off does not go"),
    "narrow": (_narrow, r"RGB of 16x128 pixels where up to 4 images"),
    "grey": (_grey, r"L of 32x128 pixels"),
    "bomb": (_bomb, r"exceeds limit"),
    "cut": (_cut, r"truncated"),
    "no picture": (_with(test_data=np.zeros(9, np.uint8), test_off=np.array([0, 9])), r"cannot id"),
}


@pytest.mark.parametrize("case", BAD_CONTAINER)
def test_a_wrong_container_is_refused(case, rng, tmp_path):
    spoil, match = BAD_CONTAINER[case]
    members = spoil(container("cifar10", cifar_parts("cifar10", rng)))
    refused("cifar10", write(tmp_path, {"cifar10.npz": npz(members)}), match)
    refused("cifar10", tmp_path, r"cifar10.npz' cannot be read")


def test_a_single_array_is_no_container(tmp_path):
    pytest.importorskip("PIL.Image", reason="needs Pillow")
    with (tmp_path / "cifar10.npz").open("wb") as file:
        np.save(file, np.arange(3))
    refused("cifar10", tmp_path, r"it is a single array")


def test_without_pillow_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    write(tmp_path, {"cifar10.npz": b""})
    with pytest.raises(MissingDependencyError, match=r"Pillow is not.*structmat\[learn\]"):
        load_data("cifar10", tmp_path)


# ---------------------------------------------------------------- text

LINES = b"".join(b"line %03d of a text\n" % i for i in range(50))


def three(begin="", ending=""):
    pack = lzma.compress if ending else bytes
    texts = {"train": LINES, "valid": b"a valid text", "test": "ein Täst".encode()}
    return {f"{begin}{part}.txt{ending}": pack(content) for part, content in texts.items()}


@pytest.mark.parametrize("begin", ["", "classics_", "wikitext2_"])
@pytest.mark.parametrize("ending", ["", ".xz"])
@pytest.mark.parametrize("place", [".", "text"])
def test_three_files_are_read_as_bytes(begin, ending, place, tmp_path):
    write(tmp_path / place, three(begin, ending))
    data = load_data("text", tmp_path)
    assert isinstance(data, Text)
    assert data.name == "text"
    assert data.train.tobytes() == LINES
    assert data.valid.tobytes() == b"a valid text"
    assert data.test.tobytes() == "ein Täst".encode()
    assert repr(data) == f"<Text: {len(LINES)} + 12 + 9 bytes>"
    for part in (data.train, data.valid, data.test):
        assert part.dtype == np.uint8
        assert part.flags.writeable
    assert f"{begin}train.txt{ending}, {begin}valid.txt{ending}" in data.note
    assert ("CC BY-SA" in data.note, "public domain" in data.note) == (
        begin == "wikitext2_",
        begin == "classics_",
    )


def test_a_set_can_be_named_by_how_its_files_begin(tmp_path):
    write(tmp_path, three() | {f"mine_{n}": c[:9] for n, c in three().items()})
    assert len(load_data("text", tmp_path).train) == len(LINES)
    assert len(load_data("text", tmp_path / "mine").train) == 9


def test_one_file_is_split_at_line_ends(tmp_path):
    write(tmp_path, {"lines.txt": LINES})
    for data_dir in (tmp_path, tmp_path / "lines.txt"):
        data = load_data("text", data_dir)
        parts = [part.tobytes() for part in (data.train, data.valid, data.test)]
        assert b"".join(parts) == LINES
        assert [part.count(b"\n") for part in parts] == [40, 5, 5]
        assert all(part.endswith(b"\n") for part in parts)


@given(lengths=st.lists(st.integers(0, 30), max_size=60), limit=st.none() | st.integers(1, 99))
def test_a_text_is_split_where_lines_end(lengths, limit, tmp_path_factory):
    ends = np.cumsum([0, *(length + 1 for length in lengths)])
    content = b"".join(b"x" * length + b"\n" for length in lengths)
    cuts = [max(ends[ends <= len(content) * tenth // 10]) for tenth in (8, 9)]
    wanted = [content[: cuts[0]], content[cuts[0] : cuts[1]], content[cuts[1] :]]
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(content)
    if not all(wanted):
        refused("text", path, r"too few to split it|it is empty", limit=limit)
        return
    data = load_data("text", path, limit=limit)
    wanted[0] = wanted[0][:limit]
    assert [part.tobytes() for part in (data.train, data.valid, data.test)] == wanted


def test_without_its_training_file_wikitext_trains_on_its_validation(tmp_path):
    write(tmp_path, {"wikitext2_valid.txt": LINES, "wikitext2_test.txt": b"test"})
    data = load_data("text", tmp_path)
    assert data.train.tobytes() + data.valid.tobytes() == LINES
    assert data.train.tobytes().count(b"\n") == 45
    assert data.test.tobytes() == b"test"
    assert "Without its training file" in data.note


@pytest.mark.parametrize("ending", ["", ".xz"])
def test_a_limit_caps_the_training_text_only(ending, tmp_path):
    data = load_data("text", write(tmp_path, three(ending=ending)), limit=7)
    assert data.train.tobytes() == LINES[:7]
    assert (len(data.valid), len(data.test)) == (12, 9)
    assert "Training on 7 bytes of it only" in data.note
    assert "only" not in load_data("text", tmp_path, limit=10**6).note


def test_a_limit_spares_the_rest_of_a_compressed_file(tmp_path):
    content = lzma.compress(np.random.default_rng(0).bytes(200_000))
    files = three(ending=".xz") | {"train.txt.xz": content[:150_000]}
    write(tmp_path, files)
    assert len(load_data("text", tmp_path, limit=1000).train) == 1000
    refused("text", tmp_path, r"train.txt.xz' cannot be read")


@pytest.mark.parametrize(
    ("files", "match", "error"),
    [
        ({"classics_train.txt": LINES}, r"lacks classics_valid.txt, classics_test.txt", InputError),
        ({"train.txt": LINES, "test.txt": LINES}, r"lacks valid.txt", InputError),
        ({"valid.txt": LINES, "test.txt": LINES}, r"lacks train.txt", InputError),
        ({"wikitext2_valid.txt": LINES}, r"lacks wikitext2_train.txt, wikitext2_test", InputError),
        ({"a.txt": LINES, "b.txt": LINES}, r"holds 2 other texts", InputError),
        ({"a.md": LINES}, r"holds no text", InputError),
        ({"a.txt": b""}, r"a.txt.*it is empty", FileFormatError),
        ({"a.txt": b"one line"}, r"has 8 bytes and 0 line ends, too few", FileFormatError),
        ({"a.txt": b"x" * 20 + b"\n"}, r"has 21 bytes and 1 line ends", FileFormatError),
        (three() | {"test.txt": b""}, r"test.txt.*it is empty", FileFormatError),
        (three(ending=".xz") | {"test.txt.xz": b"no"}, r"test.txt.xz.*cannot be", FileFormatError),
    ],
)
def test_text_that_is_missing_or_wrong_is_refused(files, match, error, tmp_path):
    refused("text", write(tmp_path, files), match, error)


# ---------------------------------------------------------------- any damage at all


def damaged(content, data):
    """The same bytes, some overwritten, perhaps cut short."""
    spoiled = bytearray(content)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4), label="places"):
        spoiled[place] = data.draw(st.integers(0, 255), label="byte")
    length = data.draw(st.just(len(content)) | st.integers(0, len(content)), label="length")
    return bytes(spoiled[:length])


def loads_or_is_refused(name, folder, file):
    """Either data come back, or an error of ours that names the file."""
    said = file
    try:
        assert isinstance(load_data(name, folder), Images | Text)
    except StructmatError as error:
        said = str(error)
    assert file in said


@given(data=st.data())
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_damaged_archive_is_refused_or_harmless(name, inner, data, tmp_path_factory):
    files = binary_files(name, cifar_parts(name, np.random.default_rng(7), train=5, test=2))
    content = tar(inside(name, files))
    if inner:  # else the checksum finds nearly all
        content = gzip.compress(damaged(gzip.decompress(content), data), 1)
    else:
        content = damaged(content, data)
    folder = write(tmp_path_factory.mktemp("archive"), {ARCHIVES[name]: content})
    loads_or_is_refused(name, folder, ARCHIVES[name])


@given(data=st.data())
def test_a_damaged_container_is_refused_or_harmless(data, tmp_path_factory):
    parts = smooth(cifar_parts("cifar10", np.random.default_rng(7), train=5, test=2))
    content = damaged(npz(container("cifar10", parts)), data)
    folder = write(tmp_path_factory.mktemp("container"), {"cifar10.npz": content})
    loads_or_is_refused("cifar10", folder, "cifar10.npz")


@given(data=st.data())
@pytest.mark.parametrize("ending", ["", ".xz"])
def test_a_damaged_text_is_refused_or_harmless(ending, data, tmp_path_factory):
    content = damaged(lzma.compress(LINES) if ending else LINES, data)
    folder = write(tmp_path_factory.mktemp("text"), {f"a.txt{ending}": content})
    loads_or_is_refused("text", folder, "a.txt")


@given(data=st.data(), which=st.integers(0, 3), ending=st.sampled_from(["", ".gz"]))
def test_a_damaged_idx_file_is_refused_or_harmless(data, which, ending, tmp_path_factory):
    arrays = [np.zeros(shape, np.uint8) for shape in ((3, 28, 28), 3, (2, 28, 28), 2)]
    pack = gzip.compress if ending else bytes
    files = {n + ending: pack(idx(a)) for n, a in zip(FASHION, arrays, strict=True)}
    file = FASHION[which] + ending
    files[file] = damaged(files[file], data)
    folder = write(tmp_path_factory.mktemp("idx"), files)
    # A changed count of images shows in the file of their labels.
    loads_or_is_refused("fashion-mnist", folder, file.partition("-")[0])


@given(data=st.data())
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of odd picture headers
def test_damaged_strips_are_refused_or_harmless(data, tmp_path_factory):
    rng = np.random.default_rng(7)
    members = container("cifar10", smooth(cifar_parts("cifar10", rng, train=5, test=2)))
    for part in ("train_data", "test_data"):
        spoiled = damaged(members[part].tobytes(), data).ljust(len(members[part]), b"\0")
        members[part] = np.frombuffer(spoiled, np.uint8)
    folder = write(tmp_path_factory.mktemp("strips"), {"cifar10.npz": npz(members)})
    loads_or_is_refused("cifar10", folder, "cifar10.npz")


# ---------------------------------------------------------------- the real thing


@pytest.mark.slow
def test_real_cifar10_has_the_pixels_of_the_published_test_set():
    data = load_data("cifar10", real("cifar10.npz"))
    check_images(data, "cifar10", 10)
    assert (len(data.train_x), len(data.test_x)) == (50000, 10000)
    pixels = np.ascontiguousarray(data.test_x.transpose(0, 2, 3, 1))
    digest = hashlib.sha256(pixels).hexdigest()
    assert digest == "1249626010949d8f448e0faf792debbc3da0c50ed31bfff3678c99c37fbc7e48"
    assert np.bincount(data.train_y).tolist() == [5000] * 10
    assert np.bincount(data.test_y).tolist() == [1000] * 10
    assert "so are 20 of the test images" in data.note
    assert "Here" not in data.note, "the sizes are the published ones"


def test_real_texts_are_what_they_were_published_as():
    books = load_data("text", real("text/classics_train.txt.xz"), limit=10_000)
    assert (len(books.valid), len(books.test)) == (1_226_969, 1_274_237)
    wiki = load_data("text", real("text/wikitext2_test.txt") / "text" / "wikitext2")
    digest = hashlib.sha256(wiki.test).hexdigest()
    assert digest == "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"
    plays = load_data("text", real("text/tinyshakespeare.txt") / "text" / "tinyshakespeare.txt")
    whole = np.concatenate([plays.train, plays.valid, plays.test])
    digest = hashlib.sha256(whole).hexdigest()
    assert digest == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
