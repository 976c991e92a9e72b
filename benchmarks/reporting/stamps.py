"""Dates and commits of results, which every picture and table of a page carries."""

from collections.abc import Iterable

from benchmarks.results import Row

#: Note of a page on its stamps.
MEANING = (
    "Each picture and table has a date and a commit. *At* is the commit that was measured; "
    "*dirty* after it says that the source had changes of its own. Older results did not keep it: "
    "*recorded in* is the commit that brought their figures into the repository, which is later "
    "than the source that was measured."
)


def stamp(*results: Row) -> str:
    """Dates and commits of some results, each once and in their order.

    "at" names the commit that was measured, "recorded in" the one that brought in the file.

    Examples
    --------
    >>> stamp({"machine": {"date": "2026-12-01", "commit": "06ae227"}})
    '2026-12-01 at 06ae227'
    >>> stamp({"machine": {"date": "2026-11-30"}, "recorded_in": "7b6240e"})
    '2026-11-30, recorded in 7b6240e'
    """
    return "; ".join(dict.fromkeys(map(_one, results)))


def dated(results: Iterable[Row]) -> bool:
    """Tell whether every one of some results has a date and a commit."""
    return all(
        result["machine"].get("date") and (_commit(result) or result.get("recorded_in"))
        for result in results
    )


def _one(result: Row) -> str:
    date, measured, recorded = result["machine"]["date"], _commit(result), result.get("recorded_in")
    if measured:
        return f"{date} at {measured}"
    return f"{date}, recorded in {recorded}" if recorded else f"{date}, no commit known"


def _commit(result: Row) -> str | None:
    """Commit that was measured, if the result kept it."""
    found: str | None = result["machine"].get("commit")
    return found
