"""Prose of the package: first words of docstrings, and phrases that no text uses.

A docstring begins with its subject or a verb, so that it can be understood without the
code. The phrases have plain counterparts: again, zero, n, those that are, ….
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIRST_WORDS = {"what", "where", "whether", "how", "of", "whose", "which", "who", "when", "why"}
PHRASES = (
    "anew",
    "nought",
    "so many",
    "such as are",
    "what is none",
    "whatever it",
    "as it were",
    "be it",
)
# Words may stand on two lines, with the mark of a comment or a quote between them.
BETWEEN = r"[\s#:>]+"
BANNED = re.compile(
    "|".join(rf"\b{phrase.replace(' ', BETWEEN)}\b" for phrase in PHRASES), re.IGNORECASE
)
GENERATED = {ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "evidence.md"}
CODE = [p for room in ("structmat", "benchmarks") for p in sorted((ROOT / room).rglob("*.py"))]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *(p for p in sorted((ROOT / "docs").rglob("*.md")) if p not in GENERATED),
    *sorted((ROOT / "docs").rglob("*.py")),
]


def name(path):
    return str(path.relative_to(ROOT))


def first_words(source):
    """Lines of docstrings that begin with a banned word, as `line: first line`."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = []
    for node in ast.walk(ast.parse(source)):
        text = (ast.get_docstring(node) if isinstance(node, kinds) else "") or ""
        if re.match(r"\w*", text).group().lower() in FIRST_WORDS:
            found.append((node.body[0].lineno, text.splitlines()[0]))
    return [f"{line}: {text}" for line, text in sorted(found)]


def phrases(text):
    """Banned phrases of a text, as `line: phrase`."""
    return [
        f"{text.count(chr(10), 0, match.start()) + 1}: {' '.join(match.group().split())}"
        for match in BANNED.finditer(text)
    ]


@pytest.mark.parametrize("path", CODE, ids=name)
def test_docstrings_begin_with_their_subject(path):
    assert first_words(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", CODE + PAGES, ids=name)
def test_banned_phrases_stay_out(path):
    assert phrases(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("word", sorted(FIRST_WORDS))
def test_a_planted_first_word_is_found(word):
    source = f'def f():\n    """{word.title()} it is."""\n'
    assert first_words(source) == [f"2: {word.title()} it is."]
    assert first_words(f'"""`{word}` is an argument."""') == []
    assert first_words('"""Widths of runs."""\nclass A:\n    """Wherever."""\n') == []


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_planted_phrase_is_found(phrase):
    apart = phrase.replace(" ", "\n    # ")
    assert phrases(f"one\ntwo {phrase.upper()} three") == [f"2: {phrase.upper()}"]
    assert len(phrases(f"# two {apart}, three")) == 1
    assert phrases("begin_anew = so_many_more") == []
