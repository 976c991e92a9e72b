"""Files: what was saved comes back, whole or with an error, and nothing else is touched."""

import errno
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat
from structmat.errors import FileFormatError, InputError, SaveError, StructmatError
from structmat.io import describe, restore
from structmat.matrices import HermitianLowRank, Mirrored

DTYPES = ("float16", "float32", "float64", "complex64", "complex128")


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def low_rank(dtype):
    return structmat.LowRank(numbers((5, 2), dtype), numbers((7, 2), dtype, 1))


def block_sparse(dtype):
    blocks = numbers((3, 2, 3), dtype)
    return structmat.BlockSparse(blocks, [0, 1, 2], [2, 0, 1], shape=(5, 7))


def block_low_rank(dtype):
    tiles = {
        (0, 1): (numbers((2, 1), dtype), numbers((4, 1), dtype)),
        (1, 0): numbers((3, 3), dtype),
        (1, 1): (numbers((3, 0), dtype), numbers((4, 0), dtype)),
    }
    return structmat.BlockLowRank(tiles, row_sizes=[2, 3], col_sizes=[3, 4])


def monarch(dtype):
    return structmat.Monarch(numbers((2, 3, 4), dtype), numbers((4, 2, 2), dtype), shape=(5, 7))


def gblr(dtype):
    return structmat.GBLR(
        [3, 0, 1], [4, 0, 2], numbers(6, dtype), [6, 2, 0], [2, 3, 7], numbers(12, dtype),
        shape=(5, 7),
    )  # fmt: skip


def hierarchical(dtype):
    blocks = [[0, 2, 3, 4, 1], [2, 3, 0, 3, -1], [2, 3, 3, 4, 0]]
    orders = {"row_order": [2, 0, 1, 4, 3], "col_order": [6, 5, 4, 3, 2, 1, 0]}
    contents = numbers(2, dtype), numbers(4, dtype, 1), numbers(9, dtype)
    return structmat.Hierarchical(blocks, *contents, shape=(5, 7), **orders)


def symmetric(dtype):
    blocks = [[0, 2, 0, 2, -1], [2, 1, 0, 2, 1]]
    contents = numbers(1, dtype), numbers(2, dtype, 1), numbers(3, dtype)
    return structmat.Hierarchical(blocks, *contents, shape=(3, 3), symmetric=True)


def dense(dtype):
    return structmat.Dense(numbers((5, 7), dtype))


def permutation(_dtype="float64"):
    return structmat.Permutation([2, 0, 1, 4, 3])


BUILDERS = {
    "low_rank": low_rank,
    "block_sparse": block_sparse,
    "block_low_rank": block_low_rank,
    "monarch": monarch,
    "gblr": gblr,
    "hierarchical": hierarchical,
    "symmetric": symmetric,
    "dense": dense,
    "permutation": permutation,
    "sum": lambda dtype: monarch(dtype) + gblr(dtype),
    "product": lambda dtype: permutation() @ monarch(dtype),
    "scaled": lambda dtype: 2 * (permutation() @ monarch(dtype)).H,
    "adjoint": lambda dtype: monarch(dtype).H,
    "mirrored": lambda dtype: Mirrored(structmat.Dense(numbers((5, 5), dtype))),
    "hermitian_low_rank": lambda dtype: HermitianLowRank(numbers((5, 2), dtype), numbers(2, dtype)),
    "nested": lambda dtype: 3 * (permutation() @ (monarch(dtype) + gblr(dtype))).H,
    "empty": lambda dtype: structmat.LowRank(numbers((0, 3), dtype), numbers((4, 3), dtype)),
    "rank zero": lambda dtype: structmat.LowRank(numbers((5, 0), dtype), numbers((4, 0), dtype)),
    "no blocks": lambda dtype: structmat.GBLR(
        [], [], numbers(0, dtype), [], [], numbers(0, dtype), shape=(3, 4)
    ),
    "no tiles": lambda dtype: structmat.BlockLowRank({}, row_sizes=[2], col_sizes=[3, 1]),
    "empty permutation": lambda _dtype: structmat.Permutation([]),
}


def assert_same(got, expected):
    """The same structure to the last bit: kinds, arrays, static attributes, operands."""
    assert type(got) is type(expected)
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    assert got.cost == expected.cost
    assert got.storage == expected.storage
    for name in expected.data_names:
        a, b = getattr(got, name), getattr(expected, name)
        assert type(a) is np.ndarray
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == np.ascontiguousarray(b).tobytes()
    ours, theirs = got._static(), expected._static()
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert type(ours[name]) in (type(value), list)
        np.testing.assert_array_equal(ours[name], value)
        assert np.asarray(ours[name]).dtype == np.asarray(value).dtype
    assert len(got.children) == len(expected.children)
    for a, b in zip(got.children, expected.children, strict=True):
        assert_same(a, b)


@pytest.fixture(params=BUILDERS)
def build(request):
    return BUILDERS[request.param]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "matrix.npz"


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Leave out the wait for the disk, which on a busy one is most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _handle: None)
        yield


# Round trips.


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip(build, dtype, path):
    A = build(dtype)
    before = pickle.dumps(A)
    structmat.save(path, A)
    B = structmat.load(path)
    assert_same(B, A)
    assert pickle.dumps(A) == before, "saving changed the matrix"
    structmat.testing.check_matrix(B.astype("float64") if dtype == "float16" else B)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_was_loaded_can_be_saved_again_to_the_same_bytes(build, dtype, tmp_path):
    structmat.save(tmp_path / "a", build(dtype))
    structmat.save(tmp_path / "b", structmat.load(tmp_path / "a"))
    a, b = (zipfile.ZipFile(tmp_path / name) for name in "ab")
    with a, b:
        assert a.namelist() == b.namelist()
        assert all(a.read(name) == b.read(name) for name in a.namelist())


@pytest.mark.parametrize("backend", ["array_api_strict", "torch"])
def test_other_libraries_save_and_load_as_numpy(build, backend, path):
    pytest.importorskip(backend)
    A = build("float32")
    structmat.save(path, A.to(backend))
    assert_same(structmat.load(path), A)


@pytest.mark.parametrize(("name", "saved"), [("bfloat16", "float32"), ("float16", "float16")])
def test_short_torch_floats_come_back_exactly(name, saved, path):
    torch = pytest.importorskip("torch")
    U = torch.arange(10, dtype=getattr(torch, name)).reshape(5, 2) / 3
    structmat.save(path, structmat.LowRank(U, U))
    A = structmat.load(path)
    assert A.dtype == saved
    np.testing.assert_array_equal(A.U, U.float().numpy())


def test_torch_contents_that_record_gradients_are_saved(path):
    torch = pytest.importorskip("torch")
    U = torch.ones(4, 2, requires_grad=True)
    structmat.save(path, structmat.LowRank(U, U))
    np.testing.assert_array_equal(structmat.load(path).U, np.ones((4, 2)))
    assert U.requires_grad


@st.composite
def gblr_matrices(draw):
    m, n = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    count = draw(st.integers(0, 5))
    dtype = draw(st.sampled_from(DTYPES))
    runs = []
    for size in (m, n):
        width = draw(st.lists(st.integers(0, size), min_size=count, max_size=count))
        start = [draw(st.integers(0, max(size - 1, 0))) for _ in range(count)]
        runs.append((start, width))
    seed = draw(st.integers(0, 99))
    (rows, heights), (cols, widths) = runs
    u, v = numbers(sum(heights), dtype, seed), numbers(sum(widths), dtype, seed + 1)
    return structmat.GBLR(rows, heights, u, cols, widths, v, shape=(m, n))


@given(gblr_matrices())
def test_round_trip_of_any_gblr_matrix(tmp_path_factory, A):
    path = tmp_path_factory.mktemp("gblr") / "a.npz"
    structmat.save(path, A)
    assert_same(structmat.load(path), A)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.0, 5e-324])
def test_special_numbers_survive(value, path):
    A = structmat.Dense(np.full((2, 2), value))
    structmat.save(path, A)
    assert structmat.load(path).A.tobytes() == A.A.tobytes()


@pytest.mark.parametrize("layout", ["F", "strided", "read-only", "big-endian"])
def test_memory_layout_does_not_matter(layout, path):
    U = numbers((6, 4), "float64")
    given_array = {
        "F": np.asfortranarray(U),
        "strided": np.repeat(U, 2, axis=0)[::2],
        "read-only": U.copy(),
        "big-endian": U.astype(">f8"),
    }[layout]
    given_array.flags.writeable = layout != "read-only"
    structmat.save(path, structmat.Dense(given_array))
    np.testing.assert_array_equal(structmat.load(path).A, U)


# The file itself.


def test_numpy_reads_the_file_without_pickle(build, path):
    structmat.save(path, build("complex64"))
    with np.load(path, allow_pickle=False) as archive:
        members = {name: archive[name] for name in archive.files}
    assert all(array.dtype != object for array in members.values())
    header = json.loads(members["structmat"].tobytes().decode("utf-8"))
    assert header["format_version"] == 2
    assert header["matrix"]["kind"] == build("complex64").kind


def test_arrays_are_named_by_their_place(path):
    structmat.save(path, structmat.Permutation([1, 0]) @ structmat.Monarch(
        np.ones((1, 2, 1)), np.ones((1, 1, 2))
    ))  # fmt: skip
    with np.load(path, allow_pickle=False) as archive:
        assert set(archive.files) == {"structmat", "0/p", "1/L", "1/R"}


@pytest.mark.parametrize("name", ["matrix", "matrix.npz", "matrix.dat", ".hidden", "a b", "ä"])
def test_the_path_is_taken_as_it_is(name, tmp_path):
    for path in (tmp_path / name, os.fspath(tmp_path / name)):
        structmat.save(path, dense("float64"))
        assert [entry.name for entry in tmp_path.iterdir()] == [name]
        assert_same(structmat.load(path), dense("float64"))


def test_a_relative_path_is_written_where_the_process_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    structmat.save("a.npz", dense("float64"))
    assert_same(structmat.load("a.npz"), dense("float64"))


def test_an_older_file_is_replaced(path):
    structmat.save(path, dense("float64"))
    structmat.save(path, gblr("float32"))
    assert_same(structmat.load(path), gblr("float32"))
    assert len(list(path.parent.iterdir())) == 1


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_the_file_is_as_readable_as_any_other_new_file(path):
    structmat.save(path, dense("float64"))
    other = path.with_name("other")
    other.write_bytes(b"")
    assert path.stat().st_mode == other.stat().st_mode


def test_the_data_are_written_beside_and_on_the_disk_before_they_are_moved(path, monkeypatch):
    structmat.save(path, dense("float64"))
    old, steps, replace = path.read_bytes(), [], os.replace

    def note_sync(_handle):
        steps.append("sync")

    def note_move(source, target):
        steps.append("move")
        assert os.path.dirname(source) == str(path.parent)
        assert os.fspath(target) == str(path)
        assert path.read_bytes() == old
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_move)
    structmat.save(path, gblr("float64"))
    assert steps == ["sync", "move", "sync"]  # the file, and then its name in the folder
    assert_same(structmat.load(path), gblr("float64"))


# Failing to save.


def refused_save(path, A=None):
    before = path.read_bytes() if path.is_file() else None
    around = set(path.parent.iterdir()) if path.parent.exists() else set()
    with pytest.raises(SaveError, match="cannot write") as caught:
        structmat.save(path, A or gblr("float64"))
    assert isinstance(caught.value, StructmatError)
    assert isinstance(caught.value, OSError)
    assert str(path) in str(caught.value)
    remedy = "choose another name" if path.is_dir() else "choose a folder"
    assert remedy in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert (set(path.parent.iterdir()) if path.parent.exists() else set()) == around
    return str(caught.value)


@pytest.mark.parametrize("failing", ["zipfile.ZipFile.open", "os.replace", "os.fsync", "os.open"])
@pytest.mark.parametrize("existing", [True, False])
def test_a_failed_save_leaves_the_old_file_and_no_other(failing, existing, path, monkeypatch):
    if existing:
        structmat.save(path, dense("float64"))

    def fail(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(failing, fail)
        assert "No space left on device" in refused_save(path)
    if existing:
        assert_same(structmat.load(path), dense("float64"))


def test_a_save_that_breaks_off_in_the_middle_leaves_the_old_file(path, monkeypatch):
    structmat.save(path, dense("float64"))

    def half(file, _array, **_options):
        file.write(b"and then the disk is full")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array", half)
        refused_save(path)
    assert_same(structmat.load(path), dense("float64"))


def test_the_reason_is_named_where_the_system_gives_only_text(path, monkeypatch):
    def fail(*_args, **_options):
        raise OSError("the network went away")

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    assert "the network went away" in refused_save(path)


def test_an_interrupted_save_leaves_no_file_behind(path, monkeypatch):
    structmat.save(path, dense("float64"))
    before = path.read_bytes()

    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(np.lib.format, "write_array", interrupt)
    with pytest.raises(KeyboardInterrupt):
        structmat.save(path, gblr("float64"))
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_missing_folder_is_refused(tmp_path):
    refused_save(tmp_path / "nowhere" / "a.npz")


def test_a_folder_in_the_way_is_refused(tmp_path):
    (tmp_path / "a.npz").mkdir()
    refused_save(tmp_path / "a.npz")


def test_a_file_where_a_folder_should_be_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SaveError, match="choose a folder"):
        structmat.save(tmp_path / "file" / "a.npz", dense("float64"))


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="the superuser may write to any folder"
)
def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    try:
        refused_save(tmp_path / "a.npz")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("other", [np.eye(2), None, "low_rank", [1, 2]])
def test_only_structured_matrices_are_saved(other, path):
    with pytest.raises(InputError, match=f"A is a {type(other).__name__}; expected a Structured"):
        structmat.save(path, other)
    assert not path.exists()


# Files that are not right.


def refused_load(path, *fragments):
    with pytest.raises(FileFormatError) as caught:
        structmat.load(path)
    assert isinstance(caught.value, ValueError)
    message = str(caught.value)
    for fragment in (str(path), "structmat", *fragments):
        assert fragment in message
    return message


def saved_bytes(path, A):
    structmat.save(path, A)
    return path.read_bytes()


def test_truncated_files_are_refused(path):
    whole = saved_bytes(path, BUILDERS["nested"]("float64"))
    for length in [*range(200), *range(200, len(whole), 41), len(whole) - 1]:
        path.write_bytes(whole[:length])
        refused_load(path, "cannot be read", "truncated")


@pytest.mark.parametrize(
    "flip",
    [
        0x01,
        pytest.param(0x80, marks=pytest.mark.slow),
        pytest.param(0xFF, marks=pytest.mark.slow),
    ],
    ids=hex,
)
def test_damaged_bytes_are_refused_or_harmless(flip, path):
    """Any single wrong byte: the matrix that was saved, or FileFormatError."""
    A = BUILDERS["product"]("float32")
    whole = saved_bytes(path, A)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= flip
        path.write_bytes(damaged)
        try:
            B = structmat.load(path)
        except FileFormatError:
            continue
        assert_same(B, A)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a matrix at all",
        b"PK\x03\x04",
        b"PK\x05\x06" + bytes(17),
        bytes(1000),
        np.random.default_rng(0).bytes(3000),
        b"\x93NUMPY",
        pickle.dumps({"a": np.eye(2)}),
        b"{'a': 1}",
    ],
    ids=range(9),
)
def test_foreign_bytes_are_refused(content, path):
    path.write_bytes(content)
    refused_load(path, "truncated, damaged or not a structmat file")


@pytest.mark.parametrize("array", [np.eye(3), np.zeros(0), np.float64(3)], ids=["2", "1", "0"])
def test_a_plain_npy_file_is_refused(array, path):
    with path.open("wb") as file:
        np.save(file, array)
    refused_load(path, "structmat.save")


def test_a_pickled_npy_file_is_refused_and_not_unpickled(path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the file was unpickled",))

    with path.open("wb") as file:
        np.save(file, np.array([Trap()], dtype=object), allow_pickle=True)
    refused_load(path)
    good_header = np.frombuffer(json.dumps(header("dense")).encode(), np.uint8)
    np.savez(path, structmat=good_header, A=np.array([[Trap()]], dtype=object))
    refused_load(path)


def test_a_foreign_npz_names_what_it_holds(path):
    np.savez(path, weights=np.eye(2), bias=np.ones(2))
    refused_load(path, "bias, weights", "no structmat header", "expected a file written by")
    np.savez(path)
    refused_load(path, "nothing", "no structmat header")


def test_a_zip_of_other_things_is_refused(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused_load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("structmat", "hello")
    refused_load(path)


@pytest.mark.parametrize("place", ["missing.npz", "nowhere/missing.npz"])
def test_a_missing_file_is_the_usual_error(place, tmp_path):
    with pytest.raises(FileNotFoundError):
        structmat.load(tmp_path / place)


def header(kind, *, version=1, static=None, children=()):
    tree = {"kind": kind, "static": static or {}, "children": list(children)}
    return {"format_version": version, "matrix": tree}


def write(path, head, **arrays):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    np.savez(path, structmat=np.frombuffer(text, np.uint8), **arrays)


ONE = np.ones((3, 1))


def test_a_file_made_by_hand_is_read(path):
    write(path, header("low_rank"), U=ONE, V=ONE)
    assert structmat.load(path).shape == (3, 3)


@pytest.mark.parametrize("version", [3, 100])
def test_newer_files_are_refused(version, path):
    write(path, header("low_rank", version=version), U=ONE, V=ONE)
    refused_load(path, f"format version {version}", "reads up to 2", "upgrade")


@pytest.mark.parametrize("version", ["2", None, -1, 0, 0.5, [1], {}, float("nan"), True])
def test_versions_that_never_were_are_refused(version, path):
    write(path, header("low_rank", version=version), U=ONE, V=ONE)
    refused_load(path)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"3",
        b'"structmat"',
        b"{}",
        b'{"format_version": 1}',
        b'{"format_version": 1, "matrix": null}',
        b'{"format_version": 1, "matrix": {}}',
        b'{"format_version": 1, "matrix": {"kind": "low_rank"}}',
        b'{"format_version": 1, "matrix": {"kind": "low_rank", "static": 3, "children": []}}',
        b'{"format_version": 1, "matrix": {"kind": "low_rank", "static": {}, "children": 3}}',
        b'{"format_version": 1, "matrix": {"kind": "mystery", "static": {}, "children": []}}',
        b'{"format_version": 1, "matrix": {"kind": ["a"], "static": {}, "children": []}}',
        b'{"format_version": 1, "matrix": {"kind": null, "static": {}, "children": []}}',
        b'{"format_version": 1, "matrix": {"kind": "sum", "static": {}, "children": []}}',
        b'{"format_version": 1, "matrix": {"kind": "adjoint", "static": {}, "children": []}}',
        b'{"format_version": 1, "matrix": ' + b"[" * 100_000,
        b'{"format_version": 1, "matrix": '
        + b'{"kind": "sum", "static": {}, "children": [' * 2000
        + b"]}" * 2000
        + b"}",
    ],
    ids=range(21),
)
def test_damaged_headers_are_refused(head, path):
    write(path, head, U=ONE, V=ONE)
    refused_load(path, "damaged")


RUNS = {"row_start": [0], "row_width": [2], "col_start": [0], "col_width": [1]}
TILES = {
    "u": np.ones(2),
    "v": np.ones(2),
    "dense": np.ones(0),
    "places": np.array([[0, 0]]),
    "ranks": np.array([1]),
    "row_sizes": np.array([2]),
    "col_sizes": np.array([2]),
}
TWO = [header("low_rank")["matrix"]] * 2


MONARCH = {"L": np.ones((2, 2, 2)), "R": np.ones((2, 2, 2))}
GBLR = {**RUNS, "u": np.ones(2), "v": np.ones(1)}
PAIR = {"0/U": ONE, "0/V": ONE, "1/U": np.ones((2, 1)), "1/V": ONE}
HALF = header("hierarchical", static={"shape": [2, 3], "symmetric": False})
HALVES = {
    "blocks": np.array([[0, 2, 0, 3, 1]]),
    "u": np.ones(2),
    "v": np.ones(3),
    "dense": np.zeros(0),
    "row_order": np.arange(2),
    "col_order": np.arange(3),
}
DAMAGED = {
    "V missing": (header("low_rank"), {"U": ONE}),
    "ranks differ": (header("low_rank"), {"U": ONE, "V": np.ones((3, 2))}),
    "V one-dimensional": (header("low_rank"), {"U": ONE, "V": np.ones(3)}),
    "V text": (header("low_rank"), {"U": ONE, "V": np.array([["a"]])}),
    "V records": (header("low_rank"), {"U": ONE, "V": np.zeros((3, 1), dtype=[("a", "f8")])}),
    "static surprise": (header("low_rank", static={"surprise": 1}), {"U": ONE, "V": ONE}),
    "array surprise": (header("low_rank"), {"U": ONE, "V": ONE, "W": ONE}),
    "child surprise": (header("low_rank", children=TWO), {"U": ONE, "V": ONE, **PAIR}),
    "p twice": (header("permutation"), {"p": np.array([0, 0])}),
    "p float": (header("permutation"), {"p": np.array([0.0, 1.0])}),
    "monarch too large": (header("monarch", static={"shape": [9, 9]}), MONARCH),
    "monarch shape short": (header("monarch", static={"shape": [1]}), MONARCH),
    "gblr run off the circle": (header("gblr", static={"shape": [1, 3]}), GBLR),
    "gblr contents long": (header("gblr", static={"shape": [3, 3]}), {**GBLR, "u": np.ones(3)}),
    "gblr shape missing": (header("gblr"), GBLR),
    "block off the grid": (
        header("block_sparse", static={"shape": [2, 2]}),
        {"blocks": np.ones((1, 2, 2)), "rows": [1], "cols": [0]},
    ),
    "rank too large": (header("block_low_rank"), {**TILES, "ranks": np.array([7])}),
    "rank negative": (header("block_low_rank"), {**TILES, "ranks": np.array([-5])}),
    "rank dense without contents": (header("block_low_rank"), {**TILES, "ranks": np.array([-1])}),
    "ranks too many": (header("block_low_rank"), {**TILES, "ranks": np.array([1, 1])}),
    "tile off the grid": (header("block_low_rank"), {**TILES, "places": np.array([[0, 5]])}),
    "tile at -1": (header("block_low_rank"), {**TILES, "places": np.array([[-1, 0]])}),
    "places flat": (header("block_low_rank"), {**TILES, "places": np.array([0, 0])}),
    "size negative": (header("block_low_rank"), {**TILES, "row_sizes": np.array([-2])}),
    "size float": (header("block_low_rank"), {**TILES, "row_sizes": np.array([2.0])}),
    "tiles too long": (header("block_low_rank"), {**TILES, "u": np.ones(3)}),
    "tiles two-dimensional": (header("block_low_rank"), {**TILES, "u": np.ones((2, 1))}),
    "hierarchical block off": (HALF, {**HALVES, "blocks": np.array([[0, 2, 0, 4, 1]])}),
    "hierarchical rank too large": (HALF, {**HALVES, "blocks": np.array([[0, 2, 0, 3, 2**60]])}),
    "hierarchical blocks flat": (HALF, {**HALVES, "blocks": np.array([0, 2, 0, 3, 1])}),
    "hierarchical order twice": (HALF, {**HALVES, "row_order": np.array([0, 0])}),
    "hierarchical without orders": (
        header("hierarchical", static={"shape": [2**62, 3], "symmetric": False}),
        {name: HALVES[name] for name in ("blocks", "u", "v", "dense")},
    ),
    "hierarchical not symmetric": (
        header("hierarchical", static={"shape": [2, 3], "symmetric": True}),
        HALVES,
    ),
    "terms of two shapes": (header("sum", children=TWO), PAIR),
    "factors that do not meet": (
        header("product", children=TWO),
        {"0/U": ONE, "0/V": np.ones((2, 1)), "1/U": ONE, "1/V": ONE},
    ),
    "half a term": (header("sum", children=TWO), {"0/U": ONE, "0/V": ONE, "1/U": ONE}),
    "alpha vector": (
        header("scaled", children=TWO[:1]),
        {"alpha": np.ones(3), "0/U": ONE, "0/V": ONE},
    ),
    "alpha text": (
        header("scaled", children=TWO[:1]),
        {"alpha": np.array("a"), "0/U": ONE, "0/V": ONE},
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_contents_are_refused(name, path):
    head, arrays = DAMAGED[name]
    write(path, head, **arrays)
    refused_load(path, "damaged")


def test_a_member_that_claims_more_than_memory_holds_is_refused(path):
    write(path, header("dense"))
    claim = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        claim, {"descr": "<f8", "fortran_order": False, "shape": (10**7, 10**7)}
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("A.npy", claim.getvalue())
    refused_load(path)


def test_entry_and_arrays_describe_one_matrix_with_nothing_left_over():
    A = structmat.LowRank(np.ones((3, 1)), np.ones((2, 1)))
    entry, arrays = describe(A @ structmat.Permutation([1, 0]) + A)
    turned = dict(reversed(entry.items()))
    assert restore(turned, arrays).to_dense().tolist() == [[2.0, 2.0]] * 3
    for wrong in (({**entry, "more": 1}, arrays), (entry, {**arrays, "9/U": np.ones(1)})):
        with pytest.raises(ValueError, match="do not belong to one matrix"):
            restore(*wrong)


@pytest.mark.parametrize("notes", [{"error": "small"}, {"error": float("nan")}, {"other": [1]}])
def test_notes_are_numbers_and_texts(notes, tmp_path):
    A = structmat.Permutation([1, 0])
    structmat.io.write(tmp_path / "a.npz", A, {"error": 0.5, "estimate": "measured"})
    assert structmat.io.read(tmp_path / "a.npz")[1] == {"error": 0.5, "estimate": "measured"}
    assert structmat.load(tmp_path / "a.npz").p.tolist() == [1, 0]
    structmat.io.write(tmp_path / "a.npz", A, notes)
    with pytest.raises(FileFormatError, match="a note"):
        structmat.io.read(tmp_path / "a.npz")
