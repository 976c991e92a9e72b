"""One price of a multiplication for all layers, and the cap that it leaves to each."""

import math
from collections.abc import Sequence

from torch import Tensor

#: Halvings of the interval in which the price is sought.
_HALVINGS = 60


def caps_at_one_price(
    energies: Sequence[Tensor], counts: Sequence[int], limits: Sequence[int], total: int
) -> list[int]:
    """Cap on the cost of each layer, such that one price holds for the entries of all.

    An entry that a layer multiplies `count` times for one example is worth it where its energy
    is above `count` times the price. A layer's cap is the number of its entries above the
    price, at most its limit. What the price leaves of the total goes to all layers below their
    limits, in proportion to the room that they have.

    Parameters
    ----------
    energies : sequence of tensor
        Nonnegative, one tensor a layer, in one unit.
    counts, limits : sequence of int
        Multiplications of one entry for one example, and the largest cap of each layer.
    total : int
        Most multiplications of all layers, each counted `count` times.

    Examples
    --------
    >>> import torch
    >>> strong, weak = torch.tensor([9.0, 8, 7, 1]), torch.tensor([6.0, 5, 4, 3])
    >>> caps_at_one_price([strong, weak], [1, 1], [4, 4], 5)
    [3, 2]
    >>> caps_at_one_price([strong, weak], [1, 1], [2, 4], 5)
    [2, 3]
    """

    def caps_at(price: float) -> list[int]:
        return [
            min(limit, int((energy > count * price).sum()))
            for energy, count, limit in zip(energies, counts, limits, strict=True)
        ]

    def cost(caps: list[int]) -> int:
        return sum(count * cap for count, cap in zip(counts, caps, strict=True))

    largest = max((float(e.max()) for e in energies if e.numel()), default=0.0)
    # Prices are halved by their exponents, as energies differ by orders of magnitude.
    low, high = largest * 2.0**-_HALVINGS, largest
    caps = caps_at(high)
    if cost(caps_at(low)) <= total:
        caps = caps_at(low)
    else:
        for _ in range(_HALVINGS):
            price = math.sqrt(low) * math.sqrt(high)
            tried = caps_at(price)
            if cost(tried) > total:
                low = price
            else:
                high, caps = price, tried
    room = cost([limit - cap for limit, cap in zip(limits, caps, strict=True)])
    share = min(1.0, (total - cost(caps)) / max(room, 1))
    return [
        cap + math.floor(share * (limit - cap)) for cap, limit in zip(caps, limits, strict=True)
    ]
