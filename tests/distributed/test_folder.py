"""A folder keeps what was done: a stopped compression goes on, and damage is mended alone."""

import json

import numpy as np
import pytest

from structmat import FileFormatError, InputError, KernelMatrix, compress
from structmat import load as load_file
from structmat.distributed import load, tasks
from structmat.distributed.folder import Folder


@pytest.fixture(scope="module")
def plain(points):
    return compress(KernelMatrix(points, "exponential"), "hierarchical", tol=1e-4, rng=7)


@pytest.fixture
def build(points, client, tmp_path):
    """Compress into a folder; gives the result and the entries that were evaluated."""

    def built(length=1.0, tol=1e-4, rng=7):
        source = KernelMatrix(points, "exponential", length=length)
        result = compress(
            source, "hierarchical", tol=tol, rng=rng, client=client, folder=tmp_path / "folder"
        )
        return result, source.entries

    return built


def parts_in(folder):
    return sorted(folder.glob("folder/fit-*/part-*.npz"))


def same(matrix, plain):
    np.testing.assert_array_equal(matrix.to_dense(), plain.matrix.to_dense())


def test_a_folder_is_loaded_with_and_without_workers(build, plain, client, tmp_path):
    result, _entries = build()
    same(result.matrix.gather(), plain)
    same(load(tmp_path / "folder"), plain)
    again = load(tmp_path / "folder", client)
    same(again.gather(), plain)
    assert again.cost == plain.cost
    assert not list(tmp_path.glob("folder/*/far-*"))
    assert load_file(parts_in(tmp_path)[0]).kind == "hierarchical"


def test_a_complete_compression_is_read(build, plain, tmp_path):
    first, entries = build()
    files = {path: path.stat().st_mtime_ns for path in parts_in(tmp_path)}
    again, few = build(rng=None)
    same(again.matrix.gather(), plain)
    assert again.estimate == first.estimate
    assert few < 0.3 * entries
    assert files == {path: path.stat().st_mtime_ns for path in parts_in(tmp_path)}


@pytest.mark.parametrize("name", ["on_hull", "joined_factors"])
def test_a_stopped_compression_goes_on(build, plain, tmp_path, monkeypatch, name):
    work, left = getattr(tasks, name), iter(range(3))

    def stopping(*args, **kwargs):
        if next(left, None) is None:
            raise KeyError("stopped")
        return work(*args, **kwargs)

    monkeypatch.setattr(tasks, name, stopping)
    with pytest.raises(KeyError, match="stopped"):
        build()
    monkeypatch.undo()
    files = {path: path.stat().st_mtime_ns for path in parts_in(tmp_path)}
    # The random numbers are those of the folder.
    result, _entries = build(rng=None)
    same(result.matrix.gather(), plain)
    assert len(parts_in(tmp_path)) == len(result.matrix.parts)
    assert files.items() <= {p: p.stat().st_mtime_ns for p in parts_in(tmp_path)}.items()


def test_a_damaged_part_is_refused_and_built_again_alone(build, plain, client, tmp_path):
    build()
    files = {path: path.stat().st_mtime_ns for path in parts_in(tmp_path)}
    path = parts_in(tmp_path)[2]
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    for read in (
        build,
        lambda: load(tmp_path / "folder"),
        lambda: load(tmp_path / "folder", client).gather(),
    ):
        with pytest.raises(FileFormatError, match=rf"{path.name}.*(?s:.)*delete that file"):
            read()
    path.unlink()
    with pytest.raises(FileFormatError, match=rf"{path.name}' is missing"):
        load(tmp_path / "folder")
    result, _ = build()
    same(result.matrix.gather(), plain)
    after = {p: p.stat().st_mtime_ns for p in parts_in(tmp_path)}
    assert {p for p in files if files[p] != after[p]} == {path}


def test_a_part_without_its_cut_is_refused(build, tmp_path):
    build()
    (cut,) = tmp_path.glob("folder/*/cut.json")
    cut.unlink()
    parts_in(tmp_path)[0].unlink()
    with pytest.raises(FileFormatError, match="parts without the cut"):
        build()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"tol": 1e-3}, "tol = 0.0001 there, 0.001 here"), ({"length": 0.9}, "length = 1.0 there")],
)
def test_another_compression_is_refused(build, change, message):
    build()
    with pytest.raises(InputError, match=f"another compression: .*{message}.*choose another"):
        build(**change)


def test_a_folder_with_other_files_is_refused(build, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="has files, but no compression"):
        build()


def test_a_folder_that_a_worker_does_not_see_is_refused(tmp_path, rng):
    class Blind:
        def run(self, function, path):
            return {"tcp://one": function(path), "tcp://two": None}

    with pytest.raises(InputError, match="not seen by 1 of 2 workers, tcp://two"):
        Folder(str(tmp_path / "new")).begin({}, rng, Blind())


def test_a_folder_without_a_result_is_not_loaded(build, tmp_path):
    with pytest.raises(FileFormatError, match="no compression was completed"):
        load(tmp_path)


def test_facts_are_sealed(build, tmp_path):
    build()
    path = tmp_path / "folder" / "result.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "seed": 1}))
    with pytest.raises(FileFormatError, match="another digest than it had"):
        build()
