"""The list of suites, with what each measures and how long it took last."""

import json
from pathlib import Path

#: What each command measures, in the order of the list.
COMMANDS = {
    "products": "products of every structure beside BLAS, CSR and peers",
    "compression": "errors at equal cost, of structmat and of peers (--data-dir: more matrices)",
    "layers": "layers that train and frozen ones, beside torch's",
    "learned": "products of the blocks that networks have learned",
    "training": "training steps of whole networks, beside dense ones",
    "scale": "kernel matrices that are never formed: compression, solves, peers",
    "gp": "Gaussian processes beside scikit-learn, george and GPyTorch",
    "estimators": "features and kernel ridge regression beside scikit-learn (`estimators run`)",
    "paper": "what the pages on the paper say of costs and of starts (`paper run`)",
    "hugging_face": "MiniLM on the way of its guide (`hugging_face run --data-dir DIR`)",
    "tucker": "convolutions by TensorLy's Tucker beside structmat's kinds (`tucker run`)",
    "learn": "the first command of the README (`learn run`)",
    "experiments": "networks and matrices of the page on evidence (`experiments --help`)",
    "reliability": "faults, kills, damaged files, coverage (`reliability --help`)",
    "gpu": "everything that a GPU does; `gpu counts` needs none",
}


def overview(results: Path) -> str:
    """Table of the commands, with the time of the last run where a result has it."""
    lines = [f"{'suite':<13}{'last run':>8}  what it measures"]
    for name, what in COMMANDS.items():
        lines.append(f"{name:<13}{_last(results / f'{name}.json'):>8}  {what}")
    lines += [
        "",
        "`python -m benchmarks SUITE` measures one, `all` the first five, and `report` writes",
        "docs/benchmarks.md from the results. `--quick` takes small sizes and a few seconds.",
    ]
    return "\n".join(lines)


def _last(path: Path) -> str:
    """Minutes of the last run; a dash where no result tells them."""
    seconds = (
        json.loads(path.read_text(encoding="utf-8")).get("seconds") if path.is_file() else None
    )
    return "–" if seconds is None else f"{seconds / 60:.2g} min"
