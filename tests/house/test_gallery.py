"""Pages of the gallery are those of its examples, which are short and run."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES, PAGES = ROOT / "docs" / "examples", ROOT / "docs" / "gallery"
SOURCES = sorted(EXAMPLES.glob("*.py"))
#: Lines of an example, without empty ones, and CPU seconds that it may take.
LINES, SECONDS = 60, 30


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_a_page_is_that_of_its_example(source):
    text = source.read_text(encoding="utf-8")
    made_of = (PAGES / f"{source.name}.md5").read_text(encoding="utf-8").strip()
    assert made_of == hashlib.md5(text.encode()).hexdigest(), "run .ci/run gallery"
    page = (PAGES / f"{source.stem}.rst").read_text(encoding="utf-8")
    pictures = re.findall(r"/gallery/(images/\S+\.png)", page)
    assert all((PAGES / picture).is_file() for picture in pictures)
    assert "Seen" in page


def test_no_page_is_left_of_a_removed_example():
    names = {source.stem for source in SOURCES}
    assert {page.stem for page in PAGES.glob("*.rst")} - {"index"} == names
    pictures = {re.sub(r"^sphx_glr_|_(\d+|thumb)$", "", p.stem) for p in PAGES.rglob("*.png")}
    assert pictures <= names


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_an_example_is_short(source):
    lines = source.read_text(encoding="utf-8").splitlines()
    assert sum(bool(line.strip()) for line in lines) < LINES
    assert max(map(len, lines)) <= 100


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_an_example_runs(source, tmp_path):
    own = {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    code = (
        "import runpy, sys, time; runpy.run_path(sys.argv[1], run_name='__main__'); "
        "print('CPU', time.process_time())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(source)],
        cwd=tmp_path, env={**os.environ, **own}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *shown, clock = done.stdout.splitlines()
    assert any(line.startswith("Seen") for line in shown)
    assert float(clock.split()[1]) < SECONDS
