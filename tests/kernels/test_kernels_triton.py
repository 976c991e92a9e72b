"""Triton's kernels for tiles without a GPU: interpreted, and compiled for one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton", reason="Triton is not installed")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from structmat.errors import InputError, MissingDependencyError  # noqa: E402
from structmat.kernels.triton import kernels as triton_tiles  # noqa: E402
from structmat.kernels.triton import line_kernels  # noqa: E402
from structmat.kernels.triton.launches import CANDIDATES, trying  # noqa: E402

HERE = Path(__file__).parent
TYPES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
SIZE = {dtype: dtype.itemsize for dtype in TYPES}
# Of one multiprocessor.
SHARED_MEMORY = 227 * 1024


def test_the_interpreter_agrees_with_float64():
    files = ["interpreted_tiles.py", "interpreted_lines.py"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= 41 + 50


def compiled(kernel, dtype, constants, launch, unit_strides, architecture=90):
    """A kernel for a GPU, as a launch with aligned operands and sizes would have it."""
    names = kernel.arg_names
    options = {k: v for k, v in launch.items() if k.startswith("num_")}
    constants = constants | {k: v for k, v in launch.items() if k not in options}
    constants |= dict.fromkeys(unit_strides, 1)
    scalars = ["x", "values", "y", "grad", "out", "contents", "scale"]
    integers = ["begin", "inputs", "outputs", "owner", "at"]
    integers += ["windows", "pieces", "base", "first", "length", "line"]
    types = dict.fromkeys(scalars, f"*{TYPES[dtype]}") | dict.fromkeys(integers, "*i32")
    types["z"] = "*fp32"
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in names}
    source = ASTSource(
        kernel,
        signature,
        {(names.index(name),): value for name, value in constants.items()},
        {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n not in constants},
    )
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


def compiled_times(dtype, tile, listed, tokens=8192, precision="ieee", unit="", **options):
    """x W by rows to columns with consecutive rows of W, by columns to rows with listed ones.

    Tiles stand in packed contents if a unit step of theirs, "v_row" or "v_col", is named.
    """
    constants = {
        "TK": tile[0],
        "TN": tile[1],
        "LISTED_INPUTS": listed,
        "LISTED_OUTPUTS": not listed,
        "PLACED": bool(unit),
        "GRAIN": 16 if unit else 1,
        "PRECISION": precision,
    }
    launch = triton_tiles.times_launch(tokens, 64, tile, SIZE[dtype])
    units = ["x_row", "y_col"] if listed else ["x_col", "y_row"]
    units += [unit] if unit else []
    return compiled(triton_tiles.times_kernel, dtype, constants, launch, units, **options)


def compiled_outer(dtype, tile, listed, precision="ieee", **options):
    constants = {
        "TK": tile[0],
        "TN": tile[1],
        "LISTED_INPUTS": listed,
        "LISTED_OUTPUTS": not listed,
        "PRECISION": precision,
    }
    launch = triton_tiles.outer_launch(tile, SIZE[dtype])
    units = ["x_row", "grad_col"] if listed else ["x_col", "grad_row"]
    return compiled(triton_tiles.outer_kernel, dtype, constants, launch, units, **options)


def compiled_lines(kernel, dtype, vectors, *, grain, architecture=90, scaled=False):
    """`dot` or `add` for vectors one after another."""
    constants = {"GRAIN": grain, "SCALED": scaled}
    if kernel is line_kernels.dot_kernel:
        launch, units = line_kernels.dot_launch(vectors, 500), ("x_col", "y_col")
        constants["SHIFT"] = 8 if grain == 1 else 1
    else:
        launch, units = line_kernels.add_launch(vectors), ("y_col",)
        constants["PRECISION"] = "ieee"
    return compiled(kernel, dtype, constants, launch, units, architecture)


def check_resources(kernel, tmp_path):
    """No spilled registers, no stack, and shared memory that one multiprocessor has."""
    assert kernel.metadata.shared <= SHARED_MEMORY
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    if not tool.exists():
        pytest.skip("this Triton brings no cuobjdump to read registers with")
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(kernel.asm["cubin"])
    usage = subprocess.run(
        [tool, "--dump-resource-usage", cubin], capture_output=True, text=True, check=True
    ).stdout
    print(re.search(r"REG:.*", usage)[0])
    assert int(re.search(r"STACK:(\d+)", usage)[1]) == 0, usage
    assert int(re.search(r"LOCAL:(\d+)", usage)[1]) == 0, usage


compiles = pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@compiles
@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tile"),
    [
        (torch.bfloat16, (64, 128)),
        pytest.param(torch.bfloat16, (128, 64), marks=pytest.mark.slow),
        pytest.param(torch.bfloat16, (128, 128), marks=pytest.mark.slow),
        pytest.param(torch.float16, (64, 128), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_half_precision_feeds_the_tensor_cores_of_hopper(dtype, tile, listed, tmp_path):
    name = {"bf16": "bf16", "fp16": "f16"}[TYPES[dtype]]
    for kernel in (compiled_times(dtype, tile, listed), compiled_outer(dtype, tile, listed)):
        ptx = kernel.asm["ptx"]
        assert re.search(rf"wgmma\.mma_async\S*\.f32\.{name}\.{name}", ptx)
        # Operands come asynchronously and 16 bytes at a time.
        assert re.search(r"cp\.async\.cg\.shared\.global \[[^]]*\], \[[^]]*\], 0x10", ptx)
        check_resources(kernel, tmp_path)


@compiles
@pytest.mark.parametrize("unit", ["v_row", pytest.param("v_col", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("architecture", "tile"),
    [
        (90, (64, 128)),
        *(
            pytest.param(architecture, tile, marks=pytest.mark.slow)
            for architecture in (80, 90, 100)
            for tile in [(16, 16), (64, 64), (128, 128)]
        ),
    ],
)
def test_tiles_in_place_are_read_16_bytes_at_a_time(unit, architecture, tile, tmp_path):
    kernel = compiled_times(
        torch.bfloat16, tile, listed=False, unit=unit, architecture=architecture
    )
    ptx = kernel.asm["ptx"]
    copies = re.findall(r"cp\.async\.c[ag]\.shared\.global \[[^]]*\], \[[^]]*\], (\w+)", ptx)
    # Places of tiles and rows of x come one by one, in 32 bits; no scalar of 16 bits does.
    assert "0x10" in copies
    assert set(copies) <= {"0x10", "0x4"}
    assert not re.search(r"ld\.global\S*16\b", ptx)
    check_resources(kernel, tmp_path)


@compiles
@pytest.mark.slow
@pytest.mark.parametrize("architecture", [80, 90, 100])
@pytest.mark.parametrize(
    ("name", "row"), [(name, row) for name, rows in CANDIDATES.items() for row in rows]
)
def test_what_tuning_tries_fits_the_machine(name, row, architecture, tmp_path):
    unit = "v_row" if architecture == 90 else ""
    dtype = torch.bfloat16 if "16" in name else torch.float32
    tokens = 8192 if "wide" in name else 256
    for tile in ((64, 128), (128, 128)):
        with trying(name, row):
            if name.startswith("outer"):
                kernel = compiled_outer(dtype, tile, False, architecture=architecture)
            else:
                kernel = compiled_times(
                    dtype, tile, False, tokens, unit=unit, architecture=architecture
                )
        check_resources(kernel, tmp_path)


@compiles
@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 100, 1024])
@pytest.mark.parametrize("tile", [(16, 16), (128, 128)])
def test_other_launches_fit_the_machine(tokens, tile, tmp_path):
    kernel = compiled_times(torch.bfloat16, tile, listed=False, tokens=tokens)
    assert re.search(r"mma\S*\.f32\.bf16\.bf16", kernel.asm["ptx"])
    check_resources(kernel, tmp_path)


@compiles
@pytest.mark.parametrize("listed", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("build", "tile"),
    [
        (compiled_times, (64, 128)),
        pytest.param(compiled_outer, (64, 128), marks=pytest.mark.slow),
        pytest.param(compiled_outer, (128, 128), marks=pytest.mark.slow),
    ],
)
def test_float32_is_multiplied_exactly_or_as_tf32_if_told(build, tile, listed, tmp_path):
    exact = build(torch.float32, tile, listed)
    assert "mma" not in exact.asm["ptx"]
    check_resources(exact, tmp_path)
    quick = build(torch.float32, tile, listed, precision="tf32")
    assert re.search(r"mma\S*\.tf32\.tf32", quick.asm["ptx"])
    check_resources(quick, tmp_path)


@compiles
@pytest.mark.parametrize(
    "architecture", [90, *(pytest.param(a, marks=pytest.mark.slow) for a in (80, 100))]
)
@pytest.mark.parametrize("vectors", [1, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, pytest.param(torch.float32, marks=pytest.mark.slow)], ids=str
)
def test_lines_are_read_16_bytes_at_a_time(architecture, vectors, dtype, tmp_path):
    for kernel in (line_kernels.dot_kernel, line_kernels.add_kernel):
        options = {"architecture": architecture, "scaled": architecture == 80}
        ptx = compiled_lines(kernel, dtype, vectors, grain=8, **options).asm["ptx"]
        assert re.search(
            r"ld\.global\.v4\.b32|cp\.async\.cg\.shared\.global \[[^]]*\], \[[^]]*\], 0x10", ptx
        )
        for grain in (1, 8):
            check_resources(
                compiled_lines(kernel, dtype, vectors, grain=grain, **options), tmp_path
            )


def precision_after(statement):
    code = f"import torch; {statement}\nfrom structmat.kernels.triton.kernels import precision"
    result = subprocess.run(
        [sys.executable, "-c", code + "\nprint(precision())"],
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("torch.set_float32_matmul_precision('highest')", "ieee"),
        ("torch.set_float32_matmul_precision('medium')", "tf32"),
        ("torch.backends.cuda.matmul.allow_tf32 = True", "tf32"),
        ("torch.backends.cuda.matmul.fp32_precision = 'tf32'", "tf32"),
        ("torch.backends.cuda.matmul.fp32_precision = 'ieee'", "ieee"),
    ],
)
def test_precision_follows_every_way_to_tell_torch(setting, wanted):
    if "fp32_precision" in setting and not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("torch is older than this setting")
    assert precision_after(setting) == wanted


def test_missing_triton_is_named(monkeypatch):
    monkeypatch.setattr(triton_tiles, "triton", None)
    x = torch.zeros(2, 2)
    none = torch.zeros(1, 1, dtype=torch.int32)
    with pytest.raises(MissingDependencyError, match="pip install triton"):
        triton_tiles.times(x, x[None], none, none, none, x)
    with pytest.raises(MissingDependencyError, match="pip install triton"):
        triton_tiles.outer(x, x, none, none, none, x[None])


def test_launches_beyond_31_bits_are_refused():
    x = torch.empty(2**36, 1, device="meta", dtype=torch.float16)
    begin = torch.zeros(129, dtype=torch.int32)
    tiles, none = torch.zeros(0, 64, 128, dtype=torch.float16), torch.zeros(0, 1, dtype=torch.int32)
    with pytest.raises(InputError, match=r"2\*\*31"):
        triton_tiles.times(x, tiles, begin, none, none, x)
    with pytest.raises(InputError, match=r"2\*\*31"):
        triton_tiles.outer(x, x, none, none, none, tiles)


def test_without_tiles_nothing_is_launched():
    x, none = torch.ones(3, 4), torch.zeros(0, 1, dtype=torch.int32)
    out = torch.zeros(0, 16, 16)
    triton_tiles.outer(x, x, none, none, none, out)
    assert out.shape == (0, 16, 16)
