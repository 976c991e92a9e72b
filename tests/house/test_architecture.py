"""The page on the architecture names files that exist, and counting moves counts."""

import re

import numpy as np
import pytest
from rooms import ARCHITECTURE, PACKAGE, ROOT

from structmat.intervals import pack, positions

NAMED = set(re.findall(r"`([\w./]+(?:\.(?:py|toml|md)|/))`", ARCHITECTURE.read_text("utf-8")))


def is_there(name):
    return (ROOT / name).exists() or (PACKAGE / name).exists()


def test_every_file_that_is_named_exists():
    assert len(NAMED) > 50
    assert sorted(name for name in NAMED if not is_there(name)) == []


def test_a_file_that_does_not_exist_is_found():
    assert not is_there("compress/attic.py")


@pytest.fixture
def count_moves():
    pytest.importorskip("torch")
    import count_moves

    return count_moves


def test_a_walk_is_counted(count_moves):
    found = count_moves.count(count_moves.WALKS["matvec"]())
    assert found.files[0] == "contract/operators.py"
    assert "matrices/gblr.py" in found.files
    assert found.moves >= len(found.files) - 1
    assert found.functions >= len(found.files)


def test_only_calls_between_files_are_moves(count_moves):
    start, width, full = np.array([1]), np.array([2]), np.ones((1, 4))
    assert count_moves.count(lambda: np.linalg.norm(full)) == (0, 0, [])
    found = count_moves.count(lambda: positions(start, width, 4))
    assert (found.moves, found.files) == (0, ["intervals.py"])
    twice = count_moves.count(lambda: (pack(full, start, width), positions(start, width, 4)))
    assert (twice.moves, twice.functions > found.functions) == (0, True)
