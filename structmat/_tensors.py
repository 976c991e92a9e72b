"""Tensors of torch on their way to NumPy, and those that are no plain arrays.

Torch is not imported at the top: most uses of this room have no tensor.
"""

from typing import Any

import numpy as np
import scipy.sparse

from structmat.errors import BackendError


def tensor_to_numpy(x: Any) -> np.ndarray:
    """Values of a plain tensor on the host; dtypes that NumPy lacks become wider ones."""
    from structmat._derivatives import lasting, settled

    x = settled(x)
    check_has_values(x)
    with lasting():
        x = x.detach().cpu()
        if x.dtype.is_floating_point and x.dtype.itemsize <= 2 and str(x.dtype) != "torch.float16":
            x = x.float()
        elif str(x.dtype) == "torch.complex32":
            x = x.cfloat()
        return x.resolve_conj().resolve_neg().numpy()


def check_has_values(*arrays: Any) -> None:
    """Refuse tensors on torch's meta device, which have a shape alone."""
    for x in arrays:
        if getattr(x, "is_meta", False):
            raise BackendError(
                f"a tensor of shape {tuple(x.shape)} is on torch's meta device, which holds no "
                "values; expected a device that does, such as cpu (load or make the contents there)"
            )


def tensor_fault(x: Any) -> str:
    """Reason why a tensor does not multiply, and the remedy; empty for a plain one."""
    if x.is_nested:
        return "is a nested tensor; expected one shape (pad it with to_padded_tensor)"
    if is_sparse_tensor(x):
        return f"has the layout {x.layout}; expected torch.strided (give to_dense())"
    if x.is_quantized:
        return f"is quantized, {x.dtype}; expected real or complex numbers (give dequantize())"
    if (x.dtype.is_floating_point and x.dtype.itemsize < 2) or str(x.dtype) == "torch.complex32":
        return f"has dtype {x.dtype}, which is for storage; expected a wider one (give x.to(…))"
    return ""


def is_sparse_tensor(x: Any) -> bool:
    """Tell whether a tensor has a sparse layout."""
    return str(x.layout).startswith("torch.sparse")


def tensor_to_scipy(x: Any) -> Any:
    """A sparse tensor of two dimensions as a sparse array of SciPy, without its gradients."""
    x = x.detach()
    # A hybrid tensor stores dense rows, which have to become entries first.
    x = (x.to_dense().to_sparse() if x.dense_dim() else x.to_sparse_coo()).coalesce()
    values, places = (tensor_to_numpy(part) for part in (x.values(), x.indices()))
    return scipy.sparse.coo_array((values, tuple(places)), shape=tuple(x.shape)).tocsr()
