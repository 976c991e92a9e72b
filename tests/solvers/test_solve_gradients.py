"""Derivatives of solves and log-determinants on torch: every kind, every order, every transform."""

import pytest
from solve_kinds import KINDS, N, drawn, hierarchical

from structmat import Dense, Diagonal, KernelMatrix, LowRank, factorize, logdet, lstsq, solve
from structmat.binding import construct, leaves
from structmat.errors import BackendError
from structmat.sources import source

torch = pytest.importorskip("torch")
quiet = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own imports
#: Kinds whose second derivatives are taken every time; of the others by hand, with -m slow.
TWICE = ("low_rank", "hierarchical")


def followed(A):
    """A matrix on torch, and its contents as tensors that need gradients."""
    A = A.to("torch")
    contents = [t.clone() for t in leaves(A)]
    for t in contents:  # the identity has a content without entries
        t.requires_grad_(bool(t.numel()) and t.dtype != torch.int64)
    return A, contents


def number(value=2.5):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def columns(n, dtype, count=2):
    return torch.randn(n, count, dtype=dtype, generator=torch.manual_seed(3)).requires_grad_()


def check(function, inputs, *, twice=True, thorough=False):
    """Derivatives against differences: along random directions, or all entries."""
    options = {"fast_mode": not thorough, "atol": 1e-4, "rtol": 1e-4}
    assert torch.autograd.gradcheck(function, inputs, **options)
    if twice:
        assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "is_complex"),
    [
        *((kind, False) for kind in KINDS),
        *((kind, True) for kind in (*TWICE, "gblr", "plus-permutation")),
    ],
)
def test_derivatives_of_every_kind(kind, is_complex):
    A, contents = followed(KINDS[kind](drawn(1, is_complex)))
    b, shift = columns(A.shape[0], A.dtype), number()

    def both(shift, b, *contents):
        F = factorize(construct(A, contents), shift=shift)
        return F.solve(b), F.logdet().logabsdet

    check(both, (shift, b, *contents), twice=kind in TWICE and is_complex)


@pytest.mark.slow  # every entry of every Jacobian
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_derivative_of_every_kind(kind, is_complex):
    A, contents = followed(KINDS[kind](drawn(2, is_complex)))
    b, shift = columns(A.shape[0], A.dtype), number(3.5)

    def both(shift, b, *contents):
        F = factorize(construct(A, contents), shift=shift)
        return F.solve(b), F.H @ b, F.logdet().logabsdet

    check(both, (shift, b, *contents), thorough=True)


@pytest.mark.parametrize("kernel", ["exponential", "gaussian", "matern32"])
def test_points_and_lengths_of_kernels(kernel):
    points = torch.rand(N, 2, dtype=torch.float64, generator=torch.manual_seed(0)) * 3
    inputs = (points.requires_grad_(), number(0.7), number(0.1), columns(N, torch.float64, 1))

    def both(points, length, shift, b):
        F = factorize(KernelMatrix(points, kernel, length=length), shift=shift)
        return F.solve(b), F.logdet().logabsdet

    check(both, inputs, twice=kernel == "gaussian")


@pytest.mark.parametrize("size", [2**22, 2 * N])
def test_blocks_of_a_kernel_are_not_kept_for_gradients(size, monkeypatch):
    """Products by blocks of two rows evaluate each again; they remember points and operands."""
    monkeypatch.setattr(source, "BLOCK_ENTRIES", size)
    points = torch.rand(N, 2, dtype=torch.float64, generator=torch.manual_seed(0))
    length, x = number(0.7), columns(N, torch.float64, 1)
    points.requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        y = KernelMatrix(points, "gaussian", length=length) @ x
    assert ((N, N) in kept or (2, N) in kept) is (size > 2 * N)

    def products(points, length, x):
        A = KernelMatrix(points, "gaussian", length=length)
        return A.matmat(x), A.rmatmat(x)

    check(products, (points, length, x), twice=size == 2 * N)
    assert y.requires_grad


def test_functions_with_gradients_of_their_own_are_refused():
    points = torch.rand(N, 2, dtype=torch.float64)
    length = number(0.7)
    A = KernelMatrix(points, lambda X, Y: torch.exp(-torch.cdist(X, Y) / length))
    for matrix in (A, A + Diagonal(torch.ones(N, dtype=torch.float64))):
        with pytest.raises(BackendError, match="depends on tensors that need gradients"):
            factorize(matrix, shift=1.0)
        with torch.no_grad():
            F = factorize(matrix, shift=1.0)
            torch.testing.assert_close(F.matrix @ F.solve(points), points)
    with pytest.raises(BackendError, match="depends on tensors that need gradients"):
        lstsq(A, torch.ones(N, dtype=torch.float64))


@pytest.mark.parametrize("turn", ["H", "T", "conj"])
def test_turned_factorizations(turn):
    A, contents = followed(KINDS["plus-diagonal"](drawn(3, True)))
    b = columns(N, A.dtype)

    def both(b, *contents):
        F = factorize(construct(A, contents))
        F = F.conj() if turn == "conj" else getattr(F, turn)
        return F @ b, F.logdet().logabsdet

    check(both, (b, *contents), twice=turn == "T")


@pytest.mark.parametrize(
    ("m", "n", "rank", "is_complex"),
    [(5, 3, 3, False), (3, 5, 3, False), (5, 4, 2, True), (4, 4, 4, False)],
)
def test_least_squares_of_every_shape_and_rank(m, n, rank, is_complex):
    draw, dtype = torch.manual_seed(m), torch.complex128 if is_complex else torch.float64
    U, V, b = (torch.randn(*s, dtype=dtype, generator=draw) for s in ((m, rank), (n, rank), (m, 2)))
    inputs = tuple(t.requires_grad_() for t in (U, V, b))
    check(lambda U, V, b: lstsq(LowRank(U, V), b), inputs, twice=m != n)
    if rank == min(m, n):
        A = torch.randn(m, n, dtype=dtype, generator=draw).requires_grad_()
        check(lambda A, b: lstsq(Dense(A), b), (A, b))


@pytest.mark.parametrize("kind", ["gblr", "diagonal", "plus-diagonal"])
def test_least_squares_by_structure(kind):
    A, contents = followed(KINDS[kind](drawn(1)))
    inputs = (columns(N, A.dtype), *contents)
    check(lambda b, *own: lstsq(construct(A, own), b), inputs, twice=False)


def test_batches_of_least_squares():
    A = Dense(torch.randn(5, 3, dtype=torch.float64, generator=torch.manual_seed(0)))
    batch = torch.randn(4, 5, dtype=torch.float64, generator=torch.manual_seed(1))
    found = torch.func.vmap(lambda b: lstsq(A, b))(batch)
    torch.testing.assert_close(found, torch.linalg.lstsq(A.A, batch.T).solution.T)
    jacobian = torch.func.jacrev(lambda M: lstsq(Dense(M), batch[0]))(A.A)
    expected = torch.func.jacrev(lambda M: torch.linalg.pinv(M) @ batch[0])(A.A)
    torch.testing.assert_close(jacobian, expected)


def spiked(dtype=torch.float64):
    """Thin factors and a diagonal, as tensors."""
    draw = torch.manual_seed(5)
    U, V = (torch.randn(N, 2, dtype=dtype, generator=draw) for _ in range(2))
    return U, V, 3 + torch.rand(N, dtype=dtype, generator=draw)


def solved(U, V, d, b):
    return solve(LowRank(U, V) + Diagonal(d), b)


def plainly(U, V, d, b):
    """The same by torch's own functions."""
    return torch.linalg.solve(U @ V.mH + torch.diag(d), b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("shape", [(N,), (N, 2), (2, N, 3), (N, 0)])
def test_gradients_agree_with_those_of_torch(shape, dtype):
    found, expected = [], []
    for function, grads in ((solved, found), (plainly, expected)):
        b = torch.ones(shape, dtype=dtype)
        inputs = [t.requires_grad_() for t in (*spiked(dtype), b)]
        x = function(*inputs)
        assert x.dtype == dtype
        grads += torch.autograd.grad(x.abs().square().sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_right_hand_side_alone():
    F = factorize(LowRank(*spiked()[:2]), shift=1.0)
    b = columns(N, torch.float64)
    (grad,) = torch.autograd.grad(F.solve(b).sum(), b)
    torch.testing.assert_close(grad, F.solve_adjoint(torch.ones_like(grad)))


def test_what_needs_no_gradient_gets_none():
    U, V, d = spiked()
    b = torch.ones(N, dtype=torch.float64)
    assert not solved(U, V, d, b).requires_grad
    U.requires_grad_()
    with torch.no_grad():
        F = factorize(LowRank(U, V) + Diagonal(d))
        assert not F.solve(b).requires_grad
    assert not F.solve(b).requires_grad
    (grad,) = torch.autograd.grad(solved(U, V, d, b).sum(), U)
    assert grad.shape == U.shape


@pytest.mark.parametrize("recorded", [False, True], ids=["once", "recorded"])
@pytest.mark.parametrize("followed", ["U", "V", "UV", "shift", "U shift"])
def test_determinants_follow_some_of_their_parts(followed, recorded):
    U, V, _ = spiked()
    tensors = [U.clone(), V.clone()] + [number()]
    for t, name in zip(tensors, ("U", "V", "shift"), strict=True):
        t.requires_grad_(name in followed)
    wanted = [t for t in tensors if t.requires_grad]
    U, V, shift = tensors
    found = logdet(LowRank(U, V), shift=shift if "shift" in followed else float(shift)).logabsdet
    dense = torch.linalg.slogdet(U @ V.mH + shift * torch.eye(N, dtype=torch.float64)).logabsdet
    for one, other in zip(
        torch.autograd.grad(found, wanted, create_graph=recorded),
        torch.autograd.grad(dense, wanted),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_an_estimate_of_gradients_is_near(monkeypatch):
    """Random vectors in the place of all columns, as for many rows."""
    from structmat.solvers.gradients import traces

    A, contents = followed(hierarchical(drawn(7)))
    grads = []
    for rows in (N, 0):
        monkeypatch.setattr(traces, "EXACT_ROWS", rows)
        found = logdet(construct(A, contents), shift=9.0)
        grads += torch.autograd.grad(found.logabsdet, contents[2])
    assert 0 < float((grads[1] - grads[0]).norm()) < 0.4 * float(grads[0].norm())


def test_columns_of_a_trace_come_in_blocks(monkeypatch):
    from structmat.solvers.gradients import traces

    A, contents = followed(hierarchical(drawn(7)))
    grads = []
    for scalars in (2**22, 4 * N):
        monkeypatch.setattr(traces, "SCALARS", scalars)
        grads.append(
            torch.autograd.grad(logdet(construct(A, contents), shift=9.0)[1], contents[:3])
        )
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


@quiet
def test_transforms():
    U, V, d = spiked()
    b = columns(N, torch.float64).detach()

    def by(function):
        return lambda U: function(U, V, d, b)

    for function in (torch.func.jacrev, torch.func.jacfwd, torch.func.hessian):
        found, expected = (function(by(way))(U) for way in (solved, plainly))
        torch.testing.assert_close(found, expected)
    batch = torch.randn(3, N, dtype=torch.float64)
    F = factorize(LowRank(U, V) + Diagonal(d))
    torch.testing.assert_close(torch.func.vmap(F.solve)(batch), F.solve(batch.T).T)
    each = torch.func.vmap(torch.func.grad(lambda U, b: solved(U, V, d, b).sum()), (None, 0))
    expected = torch.stack(
        [torch.func.grad(lambda U, b=b: plainly(U, V, d, b).sum())(U) for b in batch]
    )
    torch.testing.assert_close(each(U, batch), expected)
    values = torch.func.grad(lambda U: logdet(LowRank(U, V) + Diagonal(d)).logabsdet)(U)
    expected = torch.func.grad(lambda U: torch.logdet(U @ V.T + torch.diag(d)))(U)
    torch.testing.assert_close(values, expected)


@quiet
def test_forward_mode():
    U, V, d = spiked()
    b = columns(N, torch.float64).detach()
    found, expected = (
        torch.func.jvp(way, (U, V, d, b), (V, U, d, 2 * b)) for way in (solved, plainly)
    )
    torch.testing.assert_close(found, expected)

    def gradient(U):
        (grad,) = torch.autograd.grad(solved(U, V, d, b).square().sum(), U)
        return grad

    leaf, step = U.clone().requires_grad_(), 1e-6
    with torch.autograd.forward_ad.dual_level():
        grad = gradient(torch.autograd.forward_ad.make_dual(leaf, V))
        found = torch.autograd.forward_ad.unpack_dual(grad).tangent
    # Differences, because torch.linalg.solve itself is wrong here in torch 2.13.
    ends = [gradient((U + sign * step * V).requires_grad_()) for sign in (1, -1)]
    torch.testing.assert_close(found, (ends[0] - ends[1]) / (2 * step), atol=1e-8, rtol=1e-6)


def test_batches_that_no_solver_takes_are_refused():
    U, V, d = spiked()
    b = torch.ones(N, dtype=torch.float64)
    with pytest.raises(BackendError, match="vmap over the contents"):
        torch.func.vmap(lambda U: solved(U, V, d, b))(torch.stack([U, U]))
    U.requires_grad_()
    x, value = solved(U, V, d, b), logdet(LowRank(U, V) + Diagonal(d)).logabsdet
    for y in (x, value[None]):
        with pytest.raises(BackendError, match="batch of gradients"):
            torch.autograd.grad(y, U, torch.eye(len(y), dtype=y.dtype), is_grads_batched=True)


def test_a_tensor_that_changed_is_noticed():
    U, V, d = (t.requires_grad_() for t in spiked())
    x = solved(U, V, d, torch.ones(N, dtype=torch.float64))
    with torch.no_grad():
        U *= 2
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        x.sum().backward()


def test_log_determinants_are_tensors():
    U, V, d = spiked()
    for needed in (False, True):
        found = logdet(LowRank(U.requires_grad_(needed), V) + Diagonal(d))
        assert isinstance(found.logabsdet, torch.Tensor)
        assert found.logabsdet.requires_grad is needed
        assert isinstance(found.sign, float)
        assert float(found) == pytest.approx(float(torch.logdet(U @ V.T + torch.diag(d)).detach()))


@pytest.mark.slow  # torch takes its time to compile
@pytest.mark.filterwarnings("ignore")
def test_compiled_functions_agree():
    U, V, d = (t.requires_grad_() for t in spiked())
    b = columns(N, torch.float64)

    def loss(U, V, d, b):
        F = factorize(LowRank(U, V) + Diagonal(d))
        return (F.solve(b.sin()).cos()).sum() + F.logdet().logabsdet

    grads = [
        torch.autograd.grad(function(U, V, d, b), (U, V, d, b))
        for function in (loss, torch.compile(loss, backend="eager"))
    ]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)
