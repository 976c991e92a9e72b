"""Expected times of one matrix's products by a compiled kernel, apart from its contents."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from structmat.kernels.cost_model.devices import DevicePrice
from structmat.kernels.cost_model.prices import Price


class KernelTime(NamedTuple):
    """Expected time of products: a price, counts of a matrix, and figures of a place.

    It has no contents, so that it may be kept, copied and pickled.
    """

    price: Price | DevicePrice | None
    #: The counts that the price is for.
    work: Any
    #: Figures of the price; none where no times are known.
    figures: Sequence[float] = ()
    #: Times of another kernel that multiplies up to `most` columns where that is quicker.
    few: "KernelTime | None" = None
    most: int = 0

    @property
    def known(self) -> bool:
        """True if the place has figures of the kernel."""
        return self.price is not None and len(self.figures) > 0

    def seconds(self, columns: int) -> float:
        """Time for a number of columns, on one thread or on a device; endless if unknown."""
        if self.price is None or not self.known:
            return math.inf
        own = self.price.seconds(self.work, columns, self.figures)
        if self.few is None or columns > self.most:
            return own
        return min(own, self.few.seconds(columns))
