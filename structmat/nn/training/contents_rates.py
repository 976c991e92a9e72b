"""Learning rates of contents by rule, as multiples of the rate of dense layers."""

import math
from collections.abc import Iterable, Iterator

from torch import nn

from structmat.matrices import LowRank
from structmat.matrix import StructuredMatrix
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.structured.weight import StructuredWeight

#: Largest multiple: beyond it, trainings from scratch lose.
MOST = 8.0
#: Multiples are rounded to powers of the square root of two, so that a model has few groups.
STEPS_AN_OCTAVE = 2


def rate_multiples(
    weights: Iterable[GaudiWeight | StructuredWeight],
) -> dict[nn.Parameter, float]:
    """Learning rate of each content parameter over the rate of dense layers.

    The multiples follow from structure alone: a training that is resumed has the same ones. A
    parameter of several weights has the smallest of its multiples.

    Notes
    -----
    *Rate.* Under Adam, a step moves each entry by about the learning rate η. Where the steps of a
    row agree with the signs of the input, they move the output of a dense row of n entries by up
    to n η |x|, and that of a row of f entries by f η |x|. For moves of the same size, the rate is
    η n / f (Yang & Hu, arXiv 2203.03466, for fan-ins; Qiu et al., arXiv 2406.06248, for
    structures). Here f is the *fan-in*, the multiplications for each output on average, so that
    n / f is the inverse relative cost.

    A low-rank matrix U V^T has no sparse factor. Its contents have the size s = (3 n r)^(-1/4)
    at random starts. A step of U or V moves the matrix by up to η' s √(m n r) in the spectral
    norm, and a step of a dense weight by up to η √(m n). So η' = η / (s √r) = η (3 n / r)^(1/4).

    Terms and factors of sums and products have multiples of their own. All lie between 1 and 8:
    the noise of gradients bounds the rate of entries, however few there are.

    *Size.* Random starts match the mean squared entry of a dense weight, 1 / (3 n) in
    `torch.nn.Linear`. Entries are independent of each other with mean zero, so that outputs have
    the variance of dense outputs, on any inputs if the support is spread evenly. Live entries
    are therefore √(n / f) times as large as dense ones. Two factors share the size equally.
    """
    multiples: dict[nn.Parameter, float] = {}
    for weight in weights:
        for parameter, multiple in _multiples_of(weight):
            multiples[parameter] = min(multiple, multiples.get(parameter, MOST))
    return multiples


def _multiples_of(weight: GaudiWeight | StructuredWeight) -> Iterator[tuple[nn.Parameter, float]]:
    if isinstance(weight, StructuredWeight):
        yield from _of_matrix(weight.bound(), weight.contents)
        return
    multiple = _rounded(weight.shape[1], weight.fan_in)
    yield from ((parameter, multiple) for parameter in weight.parameters(recurse=False))


def _of_matrix(
    matrix: StructuredMatrix, contents: nn.Module
) -> Iterator[tuple[nn.Parameter, float]]:
    """Parameters of the contents of a matrix and of its children, each with its multiple."""
    m, n = matrix.shape
    if isinstance(matrix, LowRank):
        multiple = _rounded((3 * n) ** 0.25, matrix.rank**0.25)
    else:
        multiple = _rounded(m * n, matrix.cost)
    yield from ((parameter, multiple) for parameter in contents.parameters(recurse=False))
    for i, child in enumerate(matrix.children):
        yield from _of_matrix(child, contents.get_submodule(str(i)))


def _rounded(dense: float, live: float) -> float:
    """The ratio of two fan-ins between 1 and `MOST`, rounded."""
    ratio = min(max(dense / live, 1.0), MOST) if live else MOST
    return 2.0 ** (round(STEPS_AN_OCTAVE * math.log2(ratio)) / STEPS_AN_OCTAVE)
