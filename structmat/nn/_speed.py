"""Which way of multiplying by a structured weight takes less time: a model, no timing.

A product runs either through the structure or through the assembled dense weight. The
figures are nanoseconds. On the CPU they were fitted to ...
"""

from dataclasses import dataclass
from typing import NamedTuple

from structmat.kernels.reference import PanelPlan
from structmat.matrix import StructuredMatrix

__all__ = ["Speeds", "Work", "dense_is_quicker", "work_of"]


class Work(NamedTuple):
    """What one product by a structure consists of, whatever the number of vectors.

    Attributes
    ----------
    products : int
        Dense products that are started.
    entries : int
        Scalars that they multiply by, padding included.
    rows : int
        Rows of operands that are gathered or added up.
    """

    products: int
    entries: int
    rows: int


def work_of(matrix: StructuredMatrix) -> Work:
    """Work of a matrix that has multiplied once, so that its panels are laid out."""
    parts = [work_of(child) for child in matrix.children]
    for (_, device), plan in matrix._structure.items():
        if isinstance(plan, PanelPlan) and device == matrix.device:
            shapes = plan.index.shapes
            area, touched = sum(h * w for h, w in shapes), sum(w for _, w in shapes)
            parts.append(Work(len(shapes), area, touched))
    if not parts:
        return Work(2, matrix.cost, 0)
    return Work(*map(sum, zip(*parts, strict=True)))


@dataclass(frozen=True)
class Speeds:
    """Nanoseconds that a device takes.

    Parameters
    ----------
    start : float
        To start a dense product.
    read : float
        To read one stored scalar.
    multiply : float
        To multiply one scalar by one entry of the operand, in a large product.
    panel_multiply : float
        The same in the products by panels.
    row : float
        To gather or add up one entry of a row.
    """

    start: float
    read: float
    multiply: float
    panel_multiply: float
    row: float

    def dense(self, shape: tuple[int, int], count: int) -> float:
        """Time of the dense product with `count` vectors."""
        return self.start + shape[0] * shape[1] * (self.read + self.multiply * count)

    def structured(self, work: Work, count: int) -> float:
        """Time of the product by the structure."""
        once = self.start * work.products + self.read * work.entries
        return once + count * (self.panel_multiply * work.entries + self.row * work.rows)


CPU = Speeds(start=8000.0, read=0.1, multiply=0.022, panel_multiply=0.026, row=0.3)
ACCELERATOR = Speeds(start=15000.0, read=0.002, multiply=0.00005, panel_multiply=0.0001, row=0.005)

FORCE = None


def dense_is_quicker(work, shape, count, *, device, remembered):
    if FORCE is not None:
        return FORCE
    speeds = CPU if device == "cpu" else ACCELERATOR
    many = count is None
    count = 2**40 if many else count
    dense = speeds.dense(shape, count)
    if not remembered:
        dense += speeds.structured(work, min(shape))
    return dense < speeds.structured(work, count)
