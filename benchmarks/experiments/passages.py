"""Authors of passages, from their letter pairs: a table with fixed columns, of real text.

The text is a folder of books whose first lines say "## Author: NAME". A passage is a row of
729 columns: how often each of 27 characters (everything but a letter, a to z) follows each
of them, as square roots. The last fifth of every book is for testing, so that passages of
one chapter are on one side.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import BenchmarkError
from structmat.learn.data import Images, Text, load_data

#: Bytes of a passage.
LENGTH_BYTES = 1000
#: Authors with the most text.
AUTHOR_COUNT = 20
#: Passages of an author to train on and to test, at most.
TRAIN_COUNT, TEST_COUNT = 700, 150
#: Share of every book to train on.
TRAIN_SHARE = 0.8
LETTER_COUNT = 26
#: Units of a column's uint8 for one in the square root of a count.
UNITS = 16
#: Least standard deviation of a column, of a square root: rare pairs stay small.
LEAST_STD = 0.1
AUTHOR = re.compile(rb"## Author: (.*)\n")
NOTE = (
    "Letter pairs of passages by twenty authors, from English books whose authors died by 1928 "
    "(github.com/mlschmitt/classic-books-markdown, public domain). Passages to test are the ends "
    "of the same books."
)

#: Passages of each author.
Passages = Mapping[str, list[bytes]]


def authors(folder: Path) -> Images:
    """Read passages as `Images` of 729 channels of one pixel, so that columns have own scales.

    Raises
    ------
    BenchmarkError
        If the books of the folder do not name two authors or more.
    """
    books = load_data("text", folder / "classics")
    assert isinstance(books, Text)
    train, test = _passages(books.train.tobytes())
    names = sorted(train, key=lambda name: (-len(train[name]), name))[:AUTHOR_COUNT]
    if len(names) < 2:
        raise BenchmarkError(
            f"the books of {str(folder)!r} name {len(names)} authors; expected 2 or more books "
            "that begin with a line '## Author: NAME' (get those of the text collection)"
        )
    generator = np.random.default_rng(0)
    train_x, train_y = _part(train, names, TRAIN_COUNT, generator)
    test_x, test_y = _part(test, names, TEST_COUNT, generator)
    mean, std = train_x.mean((0, 2, 3)), train_x.std((0, 2, 3))
    return Images(
        name="authors",
        train_x=train_x,
        train_y=train_y,
        test_x=test_x,
        test_y=test_y,
        classes=tuple(names),
        mean=mean.astype(np.float32),
        std=np.maximum(std, UNITS * LEAST_STD).astype(np.float32),
        note=NOTE,
    )


def _passages(text: bytes) -> tuple[Passages, Passages]:
    """Passages of each author to train on and to test; books are separated by form feeds."""
    train: dict[str, list[bytes]] = {}
    test: dict[str, list[bytes]] = {}
    for book in text.split(b"\f"):
        named = AUTHOR.search(book[:LENGTH_BYTES])
        if named is None:
            continue
        author, body = named[1].decode().strip(), book[named.end() :]
        count = len(body) // LENGTH_BYTES
        cuts = [body[i * LENGTH_BYTES : (i + 1) * LENGTH_BYTES] for i in range(count)]
        edge = int(TRAIN_SHARE * count)
        train.setdefault(author, []).extend(cuts[:edge])
        test.setdefault(author, []).extend(cuts[edge:])
    return train, test


def _part(
    passages: Passages, names: list[str], most: int, generator: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Columns and labels of `most` passages of each author, all in one random order."""
    chosen = [
        (passages[name][i], label)
        for label, name in enumerate(names)
        for i in generator.permutation(len(passages[name]))[:most]
    ]
    order = generator.permutation(len(chosen))
    x = np.stack([_columns(chosen[i][0]) for i in order])
    return x[:, :, None, None], np.array([chosen[i][1] for i in order], np.int64)


def _columns(passage: bytes) -> NDArray[np.uint8]:
    """Square roots of the counts of letter pairs, (729,), in units of a sixteenth."""
    codes = _CODES[np.frombuffer(passage, np.uint8)]
    size = LETTER_COUNT + 1
    counts = np.bincount(size * codes[:-1] + codes[1:], minlength=size**2)
    return np.minimum(np.rint(UNITS * np.sqrt(counts)), 255).astype(np.uint8)


def _codes() -> NDArray[np.int64]:
    """Code of every byte: 1 to 26 for letters of either case, 0 for all else."""
    codes = np.zeros(256, np.int64)
    for letter in range(LETTER_COUNT):
        codes[ord("a") + letter] = codes[ord("A") + letter] = letter + 1
    return codes


_CODES = _codes()
