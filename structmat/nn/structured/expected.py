"""Expected times of products by a structured weight, and by a dense one of its shape."""

from typing import NamedTuple

import torch

from structmat.kernels.cost_model.layers import Times
from structmat.nn.structured.speed import dense_is_quicker


class Expected(NamedTuple):
    """Seconds of products with a number of vectors, in evaluation, once all is prepared."""

    structure: float
    dense: float
    #: Whether the dense weight, assembled once, multiplies.
    takes_dense: bool

    @classmethod
    def of(cls, times: Times, count: int, device: torch.device) -> "Expected | None":
        """Expected seconds for `count` vectors; None where the device has no figures."""
        if not times.known:
            return None
        threads = torch.get_num_threads() if device.type == "cpu" else 1
        structure, dense = times.structured(count, threads), times.dense(count, threads)
        takes_dense = dense_is_quicker(times, count, assembly=0, device=device.type)
        return cls(1e-9 * structure, 1e-9 * dense, takes_dense)
