"""Section of docs/benchmarks.md on Gaussian processes, from the result of `gp`."""

from benchmarks.reporting.page import folds, machine
from benchmarks.reporting.stamps import stamp
from benchmarks.reporting.tables import Table, listing, number
from benchmarks.results import Row


def gp_section(result: Row) -> str:
    """Section of the page."""
    facts, settings = result["machine"], result["settings"]
    measured = (
        f"Measured on {facts['date']} by `{result['command']}`, at a load of {result['load']} on "
        f"{facts['cores']} cores when it began: {machine(facts, threads=True)}"
    )
    how = (
        "Values at clusters of points and in files are drawn from a process with "
        f"{_told('true', settings)} on points of width one; those of the earthquakes are depths "
        "by place, in hundreds of kilometres. Every library has the kernel Matérn 3/2, begins "
        f"with {_told('start', settings)}, and evaluates its likelihood at all points at most "
        f"{settings['evaluations']} times; but gpytorch, whose likelihoods are noisy, takes "
        f"{settings['steps']} steps of Adam, as its pages do. Its inducing points are "
        f"{settings['inducing']} that are learned, by {settings['batches']} steps of Adam on "
        "batches of 1024 points."
    )
    done = [row for row in result["rows"] if "note" not in row]
    fits = [row for row in done if row["task"] == "fit"]
    tables = [held_out(fits), likelihoods(fits)]
    tables += [gradients([row | way for row in done for way in row.get("ways", ())])]
    tables += [given_up([row for row in result["rows"] if "note" in row])]
    shown = [table for table in tables if table.rows]
    return folds("Gaussian processes", "", {}, [], shown, [measured, how], stamp(result))


def _told(name: str, settings: Row) -> str:
    parts = [f"{key} {value:g}" for key, value in settings[name].items()]
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def held_out(rows: list[Row]) -> Table:
    """Errors at held-out points, and times."""
    return listing(
        "Held-out values",
        "At up to 500 points beside: the root of the mean square error of predicted noisy values, "
        "and the mean logarithm of their predicted density, where larger is better. The seconds of "
        "a fit include the search and the last likelihood.",
        {
            **_HEAD,
            "library": "library",
            "error": lambda row: number(row["rmse"], 4),
            "log density": lambda row: number(row["density"], 4),
            "fit, s": lambda row: number(row["fit_seconds"], 3),
            "predict, s": lambda row: number(row["predict_seconds"], 3),
            "GiB": lambda row: number(row["peak_bytes"] / 2**30),
        },
        rows,
    )


def likelihoods(rows: list[Row]) -> Table:
    """Parameters, and the likelihood that each library says and that a dense one gives."""
    return listing(
        "Parameters and likelihoods",
        "The log marginal likelihood as each library says it, structmat's with its error, and up "
        "to 5000 points that of the same parameters by a dense factorisation. With inducing points "
        "it is a bound, by batches; evaluations of gpytorch are steps.",
        {
            **_HEAD,
            "library": "library",
            "length": lambda row: number(row["length"], 4),
            "amplitude": lambda row: number(row["amplitude"], 4),
            "noise": lambda row: number(row["noise"], 4),
            "evaluations": lambda row: str(row["evaluations"]),
            "likelihood": lambda row: f"{row['likelihood']:.2f}",
            "error": lambda row: number(row["likelihood_error"]),
            "dense": _dense,
        },
        rows,
    )


def gradients(rows: list[Row]) -> Table:
    """Ways to the trace in a gradient."""
    return listing(
        "Traces in gradients",
        "tr(R⁻¹ D) for the derivative D by the logarithm of the length, at the true parameters. "
        "The difference is to the dense trace up to 5000 points, else to that of the factors at a "
        "tolerance of 1e-9. The seconds come beside those of the likelihood and include D, or for "
        "differences two more likelihoods.",
        {
            **_HEAD,
            "way": "way",
            "trace": lambda row: f"{row['trace']:.2f}",
            "difference": lambda row: number(row["difference"]),
            "standard error": lambda row: number(row["standard_error"]),
            "seconds": lambda row: number(row["seconds"]),
        },
        rows,
    )


def given_up(rows: list[Row]) -> Table:
    """Rows without figures, and why."""
    return listing(
        "Without figures",
        "What was refused, took too long, or is not installed.",
        {**_HEAD, "library": lambda row: row.get("library", "structmat"), "reason": "note"},
        rows,
    )


def _dense(row: Row) -> str:
    return f"{row['dense_likelihood']:.2f}" if "dense_likelihood" in row else "–"


_HEAD = {"points": "points", "n": "n"}
