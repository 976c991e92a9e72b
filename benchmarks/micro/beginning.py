"""The first screen of docs/benchmarks.md: five sentences, and what to use when, from results."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.reporting.tables import Table, number, percent
from benchmarks.results import Row
from structmat.kinds import kind_record

#: Results by the names of their files; a file that is not there has none.
Results = Mapping[str, Row]
#: Rows from which matrices count as large, and up to which as small; vectors from which as many.
LARGE, SMALL, MANY = 4096, 768, 64
#: The shipped matrix, and the budget at which its errors are told.
SHIPPED, BUDGET = "earthquakes, exp(−r/200 km)", 0.2


def beginning(results: Results) -> tuple[list[str], Table]:
    """Sentences for which there are results, and the table of choices."""
    makers = (_large, _small, _errors, _steps, _scale)
    sentences = [text for make in makers if (text := make(results))]
    lines = [line for make in (_products, _layers, _points, _gpu) for line in make(results)]
    return sentences, Table("What to use when", "", ["you have", "use", "measured"], lines)


def _rows(results: Results, name: str) -> list[Row]:
    return list(results[name]["rows"]) if name in results else []


def _gblr(results: Results, budget: float, wanted: Callable[[Row], bool]) -> list[float]:
    """Times over dense of random GBLR matrices in single precision on one thread, in order."""
    return sorted(
        row["over_dense"]
        for row in _rows(results, "products")
        if row.get("kind") == "gblr" and row.get("source") == "random" and row["threads"] == 1
        and row["dtype"] == "float32" and row["budget"] == budget and wanted(row)
    )  # fmt: skip


def ends(values: Iterable[float]) -> str:
    """Smallest and largest of some values, once if they look the same.

    Examples
    --------
    >>> ends([0.3, 0.1, 0.2]), ends([0.501, 0.502])
    ('0.1 to 0.3', '0.5')
    """
    found = sorted(values)
    return " to ".join(dict.fromkeys(number(value) for value in (found[0], found[-1])))


def _large(results: Results) -> str:
    one = _gblr(results, 0.25, lambda row: row["n"] >= LARGE and row["columns"] == 1)
    many = _gblr(results, 0.25, lambda row: row["n"] >= LARGE and row["columns"] >= MANY)
    if not (one and many):
        return ""
    return (
        "**Large matrices are faster.** With a quarter of the multiplications, GBLR matrices from "
        f"{LARGE:,} rows on take {ends(one)} of the dense time for one vector, and {ends(many)} "
        f"for {MANY} and more."
    )


def _small(results: Results) -> str:
    found = _gblr(results, 0.5, lambda row: row["n"] <= SMALL)
    if not found:
        return ""
    return (
        f"**Small ones hardly.** At half of the multiplications and up to {SMALL} rows, they take "
        f"{ends(found)} of the dense time."
    )


def _errors(results: Results) -> str:
    rows = [
        row for row in _rows(results, "compression")
        if row.get("matrix") == SHIPPED and row.get("budget") == BUDGET and "error" in row
        and row["method"] == "structmat"
    ]  # fmt: skip
    errors = {row["kind"]: row["error"] for row in rows if row["kind"] != "gblr"}
    own = [row["error"] for row in rows if row["kind"] == "gblr"]
    if not (own and errors):
        return ""
    kind = min(errors, key=lambda name: errors[name])
    return (
        f"**Errors are small where structure is.** On the kernel matrix of earthquakes at "
        f"{percent(BUDGET)} of the multiplications, GBLR leaves {number(own[0])}, "
        f"{kind_record(kind).label} {number(errors[kind])} and low rank "
        f"{number(errors['low_rank'])}."
    )


def _steps(results: Results) -> str:
    rows = [row for row in _rows(results, "training") if "over_dense" in row]
    if not rows:
        return ""
    times = ends(row["over_dense"] for row in rows if "Gaudi" in row["layer"])
    return (
        f"**Training is no faster yet.** A step of a layer with Gaudi masks takes {times} of the "
        "dense time on a CPU, by its cost and shape."
    )


def _scale(results: Results) -> str:
    rows = [
        row for row in _rows(results, "scale")
        if row.get("kernel") == "exponential" and row.get("tol") == 1e-3 and row["n"] >= 10**5
        and row["points"] == "square" and "seconds" in row and not {"task", "peer"} & set(row)
    ]  # fmt: skip
    if not rows:
        return ""
    told = [f"{row['n']:,} points in {number(row['seconds'])} s" for row in rows]
    return (
        f"**Kernel matrices need not be formed.** To an error of a thousandth, "
        f"{' and '.join(told)}, where a dense matrix would take "
        f"{8 * rows[-1]['n'] ** 2 / 2**40:.2g} TiB."
    )


def _products(results: Results) -> list[list[str]]:
    """Structured or dense products, by the worst case of each size."""
    lines = []
    cases: Sequence[tuple[str, float, Callable[[Row], bool]]] = (
        (f"one vector, {LARGE:,} rows and more", 0.25,
         lambda row: row["n"] >= LARGE and row["columns"] == 1),
        (f"{MANY} vectors and more, {LARGE:,} rows and more", 0.25,
         lambda row: row["n"] >= LARGE and row["columns"] >= MANY),
        (f"up to {SMALL} rows, one vector", 0.125,
         lambda row: row["n"] <= SMALL and row["columns"] == 1),
        (f"up to {SMALL} rows, {MANY} vectors and more", 0.5,
         lambda row: row["n"] <= SMALL and row["columns"] >= MANY),
    )  # fmt: skip
    for words, budget, wanted in cases:
        if found := _gblr(results, budget, wanted):
            gain = found[-1]
            use = "structure" if gain < 0.5 else "structure, for memory" if gain < 1 else "dense"
            lines.append([
                f"products: {words}, {percent(budget)} of the multiplications", use,
                f"{ends(found)} of the dense time",
            ])  # fmt: skip
    return lines


def _layers(results: Results) -> list[list[str]]:
    rows = [
        row for row in _rows(results, "layers")
        if row.get("what") == "frozen" and row["device"] == "cpu" and row["budget"] <= 0.125
    ]  # fmt: skip
    if not rows:
        return []
    times = [row["over_dense"] for row in rows]
    use = "structure" if max(times) < 0.5 else "structure, after a trial"
    tokens = " to ".join(f"{end(row['tokens'] for row in rows):,}" for end in (min, max))
    what = f"frozen layers, {tokens} tokens, up to an eighth of the multiplications"
    return [[what, use, f"{ends(times)} of the dense time"]]


def _points(results: Results) -> list[list[str]]:
    rows = [
        row for row in _rows(results, "scale")
        if row.get("task") == "solve" and row["n"] >= 10**5 and row["kernel"] == "exponential"
        and "seconds" in row
    ]  # fmt: skip
    if not rows:
        return []
    told = ", ".join(f"{row['n']:,} points in {number(row['seconds'])} s" for row in rows)
    worst = number(max(row["residual"] for row in rows))
    use = "`factorize(KernelMatrix(…), shift=…)`"
    return [["a kernel matrix to solve with", use, f"{told}, residual at most {worst}"]]


def _gpu(results: Results) -> list[list[str]]:
    if "gpu" in results:
        return []
    return [["a GPU", "[measure it](guide/gpu.md#measure-yours)", "not measured yet"]]
