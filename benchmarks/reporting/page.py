"""Pages of the documentation, made of results: sections with facts, pictures and tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.reporting.names import in_words
from benchmarks.reporting.tables import Table, folded
from benchmarks.results import Row

DOCS = Path(__file__).parents[2] / "docs"


def section(
    title: str,
    paragraphs: Sequence[str],
    failures: Sequence[str],
    tables: Sequence[Table],
) -> str:
    """Section of a page whose tables are open."""
    parts = [f"## {title}\n", *(f"{paragraph}\n" for paragraph in paragraphs)]
    parts += [failed(failures), *(table.markdown() for table in tables)]
    return "\n".join(part for part in parts if part)


def folds(
    title: str,
    lead: str,
    pictures: Mapping[str, str],
    failures: Sequence[str],
    tables: Sequence[Table],
    how: Sequence[str],
    stamp: str,
) -> str:
    """Section of a page that is short until its tables are opened.

    `lead` says what was found, `how` tells how it was measured, and `stamp` when and where.
    """
    parts = [f"## {title}\n", f"{lead}\n" if lead else "", shown(pictures, stamp)]
    parts += [failed(failures), *(folded(t.title, in_words(t).body(), stamp) for t in tables)]
    parts += [folded("How it was measured", "\n\n".join(how) + "\n")] if how else []
    return "\n".join(part for part in parts if part)


def shown(pictures: Mapping[str, str], stamp: str) -> str:
    """Pictures of a page by their places and descriptions, each with its date and commit."""
    return "\n".join(f"![{text}]({name})\n\n{caption(stamp)}" for name, text in pictures.items())


def caption(stamp: str) -> str:
    """Date and commit of what stands above, in small letters."""
    return f'<p class="stamp">{stamp}</p>\n'


def failed(failures: Sequence[str]) -> str:
    """Warning of a page about checks that failed; empty if none did."""
    if not failures:
        return ""
    return f"```{{warning}}\nThese checks failed:\n\n{items(failures)}\n```\n"


def items(texts: Sequence[str]) -> str:
    """List of a page."""
    return "\n".join(f"- {text}" for text in texts)


def placed(folder: Path, pictures: Mapping[str, str]) -> dict[str, str]:
    """Pictures by their places in a folder that is seen from the page."""
    return {(folder / name).as_posix(): text for name, text in pictures.items()}


def machine(facts: Row, *, threads: bool) -> str:
    """Machine and software of a result, in a line; on request with BLAS and all threads."""
    gpu = f", {facts['gpu']}" if facts.get("gpu") else ""
    blas = own = ""
    if threads:
        used = "unknown" if facts["threads"] is None else facts["threads"]
        blas = f" {facts['blas']} (threads: {used});"
        # Older files do not say this.
        if "structmat_threads" in facts:
            own = f" (threads: {facts['structmat_threads']})"
    peers = "".join(f", {name} {version}" for name, version in facts["peers"].items() if version)
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['system']}{gpu};{blas} "
        f"structmat {facts['structmat']}{own}, Python {facts['python']}, "
        f"NumPy {facts['numpy']}, SciPy {facts['scipy']}{peers}."
    )
