"""Structures as GPUs like them and as they do not, each beside an independent product."""

import numpy as np
from scipy.sparse import bsr_array, csr_array

import structmat
from benchmarks.micro.gblr import random_gblr
from benchmarks.micro.structures import Subject
from structmat.intervals import positions

#: Side of tiles, and outputs that share a window.
TILE = 128
#: Windows begin at multiples of this.
ALIGNMENT = 64


def tiles(n: int, cost: float, rng: np.random.Generator) -> Subject:
    """Draw full tiles, the same number in every row of tiles."""
    side = min(TILE, n // 8)
    grid = n // side
    each = max(1, round(cost * grid))
    rows = np.repeat(np.arange(grid), each)
    cols = np.concatenate([np.sort(rng.permutation(grid)[:each]) for _ in range(grid)])
    blocks = _entries((len(rows), side, side), each * side, rng)
    matrix = structmat.BlockSparse(blocks, rows, cols, shape=(n, n))
    begin = np.arange(grid + 1) * each
    twin = bsr_array((blocks.astype(np.float64), cols, begin), shape=(n, n))
    return Subject(matrix, twin.__matmul__, float(np.linalg.norm(blocks)), "tiles")


def windows(n: int, cost: float, rng: np.random.Generator) -> Subject:
    """Draw one run of columns for each group of outputs: strips that share their windows."""
    group, step = min(TILE, n // 8), min(ALIGNMENT, n // 16)
    return _strips(n, cost, np.repeat(rng.integers(0, n // step, n // group) * step, group), rng)


def strips(n: int, cost: float, rng: np.random.Generator) -> Subject:
    """Draw a run of columns at a random place for every output."""
    return _strips(n, cost, rng.integers(0, n, n), rng)


def runs(n: int, cost: float, rng: np.random.Generator) -> Subject:
    """Draw as many rank-one blocks as there are rows, on runs of any width at any place."""
    return random_gblr(n, cost, rng)


def _strips(n: int, cost: float, start: np.ndarray, rng: np.random.Generator) -> Subject:
    width = np.full(n, max(1, round(cost * n)))
    entries = _entries(int(width.sum()), int(width[0]), rng)
    at, one = np.arange(n), np.ones(n, np.int64)
    ones = np.ones(n, np.float32)
    matrix = structmat.GBLR(at, one, ones, start, width, entries, shape=(n, n))
    begin = np.arange(n + 1) * width[0]
    twin = csr_array((entries.astype(np.float64), positions(start, width, n), begin), shape=(n, n))
    return Subject(matrix, twin.__matmul__, float(np.linalg.norm(entries)), "strips")


def _entries(shape: int | tuple[int, ...], terms: int, rng: np.random.Generator) -> np.ndarray:
    """Entries under which a product keeps the size of its operand."""
    return rng.standard_normal(shape, np.float32) / np.float32(terms**0.5)


SHAPES = {"tiles": tiles, "windows": windows, "strips": strips, "runs": runs}


def drawn(name: str, n: int, cost: float) -> Subject:
    """Structure of a name, size and cost; always the same one."""
    return SHAPES[name](n, cost, np.random.default_rng(0))
