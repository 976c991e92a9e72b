"""Names for people, in the place of the codes that results and configs have."""

import re
from dataclasses import replace

from benchmarks.reporting.tables import Table
from structmat.kinds import fitted_kinds, kind_record

#: Words for whole cells: kinds, kernels, points, texts, networks, tasks.
NAMES = {
    **{kind: kind_record(kind).label for kind in ("dense", *fitted_kinds())},
    "mlp": "small MLP",
    "vit": "vision transformer",
    "mixer": "MLP-Mixer",
    "resnet": "residual network",
    "gpt": "GPT",
    "weights": "fitted to the weights",
    "classics": "books",
    "wikitext2": "WikiText-2",
    "one point": "if all sentences had one embedding",
    "spectral": "spectral norm",
    "rank_correlation": "rank correlation",
    "matern32": "Matérn 3/2",
    "8-D": "8 dimensions",
    "us_zip_codes.npy": "US zip codes",
    "susy_10k.npy": "SUSY",
    "susy": "SUSY",
    "gaussian": "Gaussian",
    "logdet": "log-determinant",
    "equal": "equal accuracy",
    "woodbury": "low rank with a shift",
    "lr": "learning rate",
    "contents_lr": "rate of contents",
    "structure_lr": "rate of the structure",
    "structure_betas": "moments of the structure",
    "revive_every": "steps between revivals",
    "float32": "single",
    "float64": "double",
    "csr": "CSR",
}
#: Words inside names of cases and layers.
WORDS = {
    "contents lr": "rate of contents",
    "lr": "learning rate",
    "splr start": "published start",
    "splr": "published start",
}
#: Parts of a layer's name: words for some, and those that say nothing.
_PARTS = {"fc1": "first", "fc2": "second", "proj": "output", "mlp": "MLP", "qkv": "queries and all"}
_SILENT = {"bert", "encoder", "self", "dense"}
_PHRASE = re.compile("|".join(rf"\b{re.escape(words)}\b" for words in WORDS))
_LAYER = re.compile(r"layer '([^']+)'")


def named(code: str) -> str:
    """Name of a code; another word stays as it is.

    Examples
    --------
    >>> named("block_low_rank"), named("matern32"), named("earthquakes")
    ('block low rank', 'Matérn 3/2', 'earthquakes')
    """
    return NAMES.get(code, code)


def case_name(case: str) -> str:
    """Name of a case of an experiment, without the codes of its settings.

    Examples
    --------
    >>> case_name("Monarch, contents lr 0.01")
    'Monarch, rate of contents 0.01'
    """
    return _PHRASE.sub(lambda match: WORDS[match[0]], case)


def layer_name(path: str) -> str:
    """Name of a layer from the path of its module; numbers begin at one.

    Examples
    --------
    >>> layer_name("bert.encoder.layer.0.attention.self.query"), layer_name("layers.1")
    ('layer 1, attention, query', 'layer 2')
    """
    found: list[str] = []
    for part in path.split("."):
        if part.isdigit() and found:
            found[-1] = f"{found[-1].removesuffix('s')} {int(part) + 1}"
        elif part not in _SILENT:
            words = part.split("_")
            found.append(" ".join(_PARTS.get(word, word) for word in words))
    return ", ".join(found)


def reason(text: str) -> str:
    """Reason why a run was left out, without what a caller should do about it."""
    text = _LAYER.sub(lambda match: layer_name(match[1]), text)
    return re.sub(r"; expected at least", ", of at least", re.sub(r" \([^)]*\)$", "", text))


def in_words(table: Table) -> Table:
    """Table whose cells have names in the place of codes."""
    return replace(table, rows=[[named(cell) for cell in row] for row in table.rows])
