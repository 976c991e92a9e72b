"""The folder of a compression on workers: what was begun, and a file for each share.

``manifest.json`` says which compression the folder belongs to, ``result.json`` is there once it
is complete, and ``orders.npz`` holds the orders of rows and columns. The files of a fit lie in a
folder of their own: ``shares.json``, ``cut.json``, and for each share ``part-….npz``, a file of
`structmat.save`, and until then ``far-….npz``, its approximated rectangles. All have digests.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.compress.goal import Goal
from structmat.compress.hierarchical.assemble import Cut
from structmat.compress.hierarchical.evaluate import Factors
from structmat.distributed.facts import differences
from structmat.distributed.part import Part
from structmat.errors import FileFormatError, InputError, SaveError
from structmat.files.archive import read_archive, write_archive
from structmat.files.foreign import check_members, digest_of, foreign, sealed, unsealed
from structmat.files.write import whole_file
from structmat.intervals import IntArray
from structmat.io import FORMAT_VERSION, HEADER, load_with, save_with

#: Files of a folder beside those of its fits.
MANIFEST, RESULT, ORDERS = "manifest.json", "result.json", "orders.npz"
_AGAIN = "delete that file, and compress again with this folder: what it held is built again, alone"


def write_facts(path: Path, facts: dict[str, Any]) -> None:
    """Write a JSON file with its digest."""
    with whole_file(path) as beside:
        beside.write_text(sealed({**facts, "format_version": FORMAT_VERSION}))


def read_facts(path: Path) -> dict[str, Any]:
    """Read a JSON file with its digest."""
    with foreign(str(path), "it is damaged: delete the whole folder"):
        return unsealed(path.read_bytes(), FORMAT_VERSION, str(path))


def _write_arrays(path: Path, arrays: dict[str, NDArray]) -> None:
    write_archive(path, arrays, {"format_version": FORMAT_VERSION}, HEADER)


def _read_arrays(path: Path) -> dict[str, NDArray]:
    """Arrays of a file, compared to their digests."""
    arrays, digests = read_archive(path)
    header = unsealed(arrays.pop(HEADER).tobytes(), FORMAT_VERSION, str(path))
    del digests[HEADER]
    check_members(header, digests)
    return arrays


@dataclass(frozen=True)
class Store:
    """Files of one fit, which workers write and read."""

    path: Path

    def part(self, i: int) -> Path:
        """File of the part of a share."""
        return self.path / f"part-{i:05}.npz"

    def far(self, i: int) -> Path:
        """File of the approximated rectangles of a share that is not packed yet."""
        return self.path / f"far-{i:05}.npz"

    def read_part(self, i: int) -> Part:
        """The part of a share."""
        path = self.part(i)
        if not path.exists():
            raise FileFormatError(f"{str(path)!r} is missing; compress again with this folder")
        with foreign(str(path), _AGAIN):
            matrix, notes = load_with(path, _AGAIN)
            (a, b), (c, d) = notes["rows"], notes["cols"]
            return Part((a, b), (c, d), matrix)

    def write_part(self, i: int, part: Part) -> None:
        """Write the part of a share, and remove what it was made of."""
        save_with(self.part(i), part.matrix, {"rows": part.rows, "cols": part.cols})
        self.far(i).unlink(missing_ok=True)

    def read_far(self, i: int) -> tuple[Factors, IntArray]:
        """Approximated rectangles of a share, and near ones."""
        path = self.far(i)
        with foreign(str(path), _AGAIN):
            arrays = _read_arrays(path)
            near = arrays.pop("near")
            return Factors(**arrays), near

    def write_far(self, i: int, found: Factors, near: IntArray) -> None:
        """Write approximated rectangles of a share, and near ones."""
        _write_arrays(self.far(i), {**found._asdict(), "near": near})

    def read_cut(self) -> Cut | None:
        """Where singular values were cut, if they were."""
        path = self.path / "cut.json"
        if not path.exists():
            return None
        facts = read_facts(path)
        return Cut(float.fromhex(facts["score"]), tuple(facts["at"]))

    def write_cut(self, cut: Cut) -> None:
        """Write where singular values are cut."""
        facts = {"score": float(cut.score).hex(), "at": [int(x) for x in cut.at]}
        write_facts(self.path / "cut.json", facts)

    def read_division(self) -> tuple[float, int] | None:
        """Rank by which shares were weighed and their number, if there are any."""
        path = self.path / "shares.json"
        if not path.exists():
            return None
        facts = read_facts(path)
        return float(facts["rank"]), int(facts["count"])

    def write_division(self, rank: float, count: int) -> None:
        """Write how the shares were divided."""
        write_facts(self.path / "shares.json", {"rank": float(rank), "count": count})


class Folder:
    """The folder of one compression, as the client sees it."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).absolute()

    def begin(self, facts: dict[str, Any], rng: np.random.Generator, client: Any) -> None:
        """Begin in an empty folder, or go on where the facts are the same.

        The random numbers become those that the compression began with.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SaveError(
                f"cannot make the folder {str(self.path)!r} ({error.strerror}); choose another one"
            ) from error
        path = self.path / MANIFEST
        if path.exists():
            found = read_facts(path)
            if differing := differences(found["compression"], facts):
                raise InputError(
                    f"folder = {str(self.path)!r}, which holds another compression: "
                    f"{'; '.join(differing)}; expected the same one (choose another folder, or "
                    "delete this one)"
                )
            rng.bit_generator.state = found["random"]
        elif any(self.path.iterdir()):
            raise InputError(
                f"folder = {str(self.path)!r} has files, but no compression; expected an empty "
                "folder, or a new one"
            )
        else:
            write_facts(path, {"compression": facts, "random": rng.bit_generator.state})
        self.check_seen(client)

    def check_seen(self, client: Any) -> None:
        """Refuse a folder that is not the same one on all workers."""
        path = self.path / MANIFEST
        seen = client.run(_digest, path)
        blind = sorted(worker for worker, digest in seen.items() if digest != _digest(path))
        if blind:
            raise InputError(
                f"folder = {str(self.path)!r} is not seen by {len(blind)} of {len(seen)} workers, "
                f"{blind[0]} among them; expected a folder of a file system that they share"
            )

    def store(self, goal: Goal, seed: int) -> Store:
        """Files of a fit."""
        facts = json.dumps([goal.max_cost, goal.max_error, seed])
        store = self.store_of(f"fit-{digest_of(facts.encode())[:12]}")
        store.path.mkdir(exist_ok=True)
        return store

    def store_of(self, name: str) -> Store:
        """Files of the fit of a name."""
        return Store(self.path / name)

    @property
    def result(self) -> dict[str, Any] | None:
        """Facts of the complete compression; None before."""
        path = self.path / RESULT
        return read_facts(path) if path.exists() else None

    def finish(
        self, facts: dict[str, Any], store: Store, orders: tuple[IntArray, IntArray]
    ) -> None:
        """Write the result and the orders, and remove fits that missed the tolerance."""
        _write_arrays(self.path / ORDERS, dict(zip(("rows", "cols"), orders, strict=True)))
        write_facts(self.path / RESULT, {**facts, "fit": store.path.name})
        for other in self.path.glob("fit-*"):
            if other != store.path:
                shutil.rmtree(other, ignore_errors=True)

    def orders(self) -> tuple[IntArray, IntArray]:
        """Orders of rows and columns of the complete matrix."""
        path = self.path / ORDERS
        with foreign(str(path), f"delete {RESULT} beside it, and compress again with this folder"):
            arrays = _read_arrays(path)
            return arrays["rows"], arrays["cols"]


def _digest(path: Path) -> str | None:
    """Digest of a file; None where it cannot be read."""
    try:
        return digest_of(path.read_bytes())
    except OSError:
        return None
