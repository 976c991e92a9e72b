"""`python -m benchmarks gpu tune`: the quickest block sizes of the tile kernels on this GPU."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from benchmarks.gpu.facts import check_gpu
from benchmarks.gpu.session import WrongResult, agree, tolerance
from benchmarks.gpu.ways import clock
from benchmarks.results import BenchmarkError
from structmat.kernels.layouts.tiles import block_tile_layouts
from structmat.kernels.triton import operators
from structmat.kernels.triton.launches import (
    CANDIDATES,
    SHIPPED,
    Figures,
    keep_figures,
    place_of_launches,
    trying,
)
from structmat.kernels.triton.torch_op import TileMatrix

#: Calls of each candidate in a round, and rounds, of which the quickest counts.
CALLS, ROUNDS = 10, 5
#: A candidate has to take less than this share of the shipped figures' time.
GAIN = 0.97
#: Sizes of the matrix and the operand: full, for launches that are not wide, and toy ones.
_SIZES, _FEW, _TOY = (4096, 8192), (4096, 256), (256, 64)


def main(arguments: Sequence[str]) -> int:
    """Try every candidate, keep the quickest, and say what was kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu tune", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="toy sizes; nothing is kept")
    options = parser.parse_args(arguments)
    if options.device == "cpu" and not options.tiny:
        raise BenchmarkError("--device cpu has nothing to tune; expected --tiny with it")
    if options.device == "cuda":
        check_gpu()
    found = {name: quickest(name, options.device, tiny=options.tiny) for name in SHIPPED}
    for name, row in found.items():
        print(f"{name}: {row}{'' if row == SHIPPED[name] else ', not the shipped ones'}")
    if not options.tiny:
        place = place_of_launches(torch.device("cuda", torch.cuda.current_device()))
        print(f"wrote {keep_figures(found, place)}")
    return 0


def quickest(name: str, device: str, *, tiny: bool) -> Figures:
    """The figures of a kind of launch that take the least time; the shipped ones if none gains."""
    call = problem(name, device, _TOY if tiny else _FEW if name == "times, 16 bits" else _SIZES)
    expected = call().double().cpu().numpy()
    dtype = "bfloat16" if "16" in name else "float32"
    shipped = best = measured(call, device, tiny=tiny)
    kept = SHIPPED[name]
    for row in CANDIDATES[name]:
        with trying(name, row):
            try:
                result = call().double().cpu().numpy()
                agree(f"{name} with {row}", result, expected, tolerance(dtype, 8192))
            except WrongResult:
                raise
            except Exception as reason:  # of Triton, as where a chip has less shared memory
                print(f"{name}: {row} does not run here ({reason})")
                continue
            seconds = measured(call, device, tiny=tiny)
        if seconds < min(best, GAIN * shipped):
            kept, best = row, seconds
    return kept


def problem(name: str, device: str, sizes: tuple[int, int]) -> Callable[[], torch.Tensor]:
    """A product by blocks of 128 at an eighth of the dense cost, or its gradient by the blocks."""
    n, tokens = sizes
    rng, grid = np.random.default_rng(0), n // 128
    rows = np.repeat(np.arange(grid), -(-grid // 8))
    cols = (rows + np.tile(np.arange(-(-grid // 8)), grid)) % grid
    order = np.lexsort((cols, rows))
    W = TileMatrix(*block_tile_layouts(rows[order], cols[order], (128, 128), (n, n)), device)
    dtype = torch.bfloat16 if "16" in name else torch.float32
    make = partial(torch.tensor, dtype=dtype, device=device)
    contents, x = make(rng.standard_normal(rows.size * 128**2)), make(rng.random((tokens, n)))
    if name.startswith("times"):
        return lambda: W.times(x, W.in_place(contents))
    parts = W._sides[0].parts
    return lambda: operators.choose(x)[1](x, x, parts, 128, 128)


def measured(call: Callable[[], torch.Tensor], device: str, *, tiny: bool) -> float:
    """Seconds of a call: the least of several means."""
    timed = clock(device)
    return min(timed(call, 1 if tiny else CALLS) for _ in range(1 if tiny else ROUNDS))
