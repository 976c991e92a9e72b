"""Blocks of a matrix that is exactly a sum of few of them: minimal spans of its factors.

If A = U V^H has rank K and column k of U lives on a run, these columns are the basis of
the column space of least total span. Every position starts exactly one shortest
vector of the space (a characteristic generator; Koetter & Vardy 2003 for codes), and
the K shortest independent ones are such a basis. The same for V; what couples the two
bases is then eliminated to one entry a row and column.
"""

import numpy as np
from numpy.typing import NDArray

from structmat.compress.gblr.residual import Block, take
from structmat.compress.gblr.transfers import Transfers, hull
from structmat.intervals import best_runs, run_mask
from structmat.project.svd import numerical_rank

#: Distance of an eigenvalue from 1 that may be rounding.
LEAST_DISTANCE = 1e-12
#: Highest rank, as a share of the smaller side, that a first and a second sketch find.
RANK_SHARES = (0.5, 0.75)
#: Highest rank for which the search for spans is quick.
MOST_RANK = 96
#: Most rows times rank cubed for which the search for spans is quick.
MOST_OPERATIONS = 1.5e8
#: Share of the pairs of shortest vectors that are coupled, above which a walk is useless: a sum
#: of few blocks couples those alone whose runs hold each other or share an end.
MOST_COUPLED = 0.5
#: Walks over the exact sums at the end, at most, and the steps of one of them.
WALKS, WALK_STEPS = 3, 2000


def span_blocks(A: NDArray, most: float, rng: np.random.Generator) -> list[Block]:
    """The blocks, at least as many as A's rank.

    Empty if there are no short spans, or if even the spans of least width, which no such
    sum undercuts but by gaps inside its runs, cost more than `most`.
    """
    small = float(np.sqrt(np.finfo(A.dtype).eps))
    # A generator of its own: the draws of later starts do not depend on these.
    own = np.random.default_rng(0)
    bases = _bases(A, rng, own)
    if bases is None:
        return []
    sides, least = [], 0
    for Q in bases:
        found = _shortest_basis(Q, small)
        least += 0 if found is None else int(found[1].sum())
        if found is None or least > most:
            return []
        sides.append(found)
    (U, on_rows), (V, on_cols) = sides
    core = np.linalg.lstsq(U, A, rcond=None)[0]
    core = np.linalg.lstsq(V, core.conj().T, rcond=None)[0].conj().T
    coupled = float(np.mean(np.abs(core) > small * np.abs(core).max()))
    U, V = _eliminate(U, on_rows, core, V, on_cols, small)
    sums = Transfers(np.ascontiguousarray(U.T), np.ascontiguousarray(V.T), small)
    sums.descend()
    if coupled <= MOST_COUPLED:
        _cheapen(sums, own)
    blocks: list[Block] = []
    for u, v in zip(*sums.sides, strict=True):
        (row, height), (col, width) = hull(u, small), hull(v, small)
        if height and width:
            whole = Block(row, take(u, row, height), col, take(v, col, width))
            blocks += _split(whole, A.shape, small)
    return [Block(b.row, b.u.astype(A.dtype), b.col, b.v.astype(A.dtype)) for b in blocks]


def _cheapen(sums: Transfers, rng: np.random.Generator) -> None:
    """Exchange ends between blocks until a walk brings nothing."""
    for _ in range(WALKS):
        before = sums.cost
        sums.walk(WALK_STEPS, rng)
        sums.descend()
        sums.shorten()
        if sums.cost == before:
            break


def _bases(
    A: NDArray, rng: np.random.Generator, own: np.random.Generator
) -> tuple[NDArray, NDArray] | None:
    """Orthonormal bases of the column and row spaces, if the rank is small enough.

    Most matrices have a rank that is low or full: the wider sketch is the rare one.
    """
    m, n = A.shape
    low, high = (min(MOST_RANK, int(share * min(m, n))) for share in RANK_SHARES)
    for most, generator in ((low, rng), (high, own)) if low < high else ((low, rng),):
        wide = A @ generator.standard_normal((n, most + 8)).astype(A.dtype)
        X, s, _ = np.linalg.svd(wide, full_matrices=False)
        rank = numerical_rank(s, A.shape)
        if 0 < rank <= most:
            break
    else:
        return None
    if max(m, n) * rank**3 > MOST_OPERATIONS:
        return None
    Q = X[:, :rank].astype(np.result_type(A, np.float64))
    P, _ = np.linalg.qr(A.conj().T @ Q)
    return Q, P


def _shortest_basis(Q: NDArray, small: float) -> tuple[NDArray, NDArray] | None:
    """Basis of the column space of Q on runs of least total width, and masks of the runs."""
    m, r = Q.shape
    size = np.linalg.norm(Q, axis=1)
    projector = Q @ Q.conj().T
    live = np.flatnonzero(size > 1e-10 * size.max()).tolist()
    done = np.zeros((r, 0), Q.dtype)
    runs, vectors = [], []
    for width, start in sorted((_shortest_run(Q, projector, i, small), i) for i in live):
        z = _vector_on(Q, start, width, small)
        new = z - done @ (done.conj().T @ z)
        size = np.linalg.norm(new)
        if size > 100 * small:
            done = np.column_stack([done, new / size])
            runs.append((start, width))
            vectors.append(Q @ z)
            if len(runs) == r:
                start, width = np.array(runs).T
                return np.column_stack(vectors), run_mask(start, width, m)
    return None


def _shortest_run(Q: NDArray, projector: NDArray, start: int, small: float) -> int:
    """Width of the shortest run that begins at `start` and holds a vector non-zero there.

    By bisection: such a run holds more independent vectors of the space than the run
    without its first position. The width in a space without structure is tried first.
    """
    m, r = Q.shape
    least, width, guesses = 0, m, [m - r, m - r + 1]
    while width - least > 1:
        middle = guesses.pop() if guesses else (least + width) // 2
        if not least < middle < width:
            continue
        more = _count_within(Q, projector, start, middle, small)
        if more > _count_within(Q, projector, start + 1, middle - 1, small):
            width = middle
        else:
            least = middle
    return width


def _count_within(Q: NDArray, projector: NDArray, start: int, width: int, small: float) -> int:
    """Number of independent vectors of the space that vanish off a run.

    They are the eigenvectors at 1 of the orthogonal projector Q Q^H, cut to the run.
    """
    m, r = Q.shape
    on = (start + np.arange(width)) % m
    # The smaller of two products with the same eigenvalues other than 0.
    part = projector[np.ix_(on, on)] if width <= r else Q[on].conj().T @ Q[on]
    return int((1 - np.linalg.eigvalsh(part) < max(small**2, LEAST_DISTANCE)).sum())


def _vector_on(Q: NDArray, start: int, width: int, small: float) -> NDArray:
    """Unit z for which Q z is zero off the run but not at its start; zero if there is none."""
    m, r = Q.shape
    beyond = Q[(start + width + np.arange(m - width)) % m]
    _, s, Zh = np.linalg.svd(beyond, full_matrices=True)
    null = Zh[np.concatenate([s, np.zeros(r - s.size, s.dtype)]) < small]
    z = null.conj().T @ (null @ Q[start].conj())
    size = np.linalg.norm(z)
    return z / size if size > small else np.zeros(r, Q.dtype)


def _eliminate(
    U: NDArray, on_rows: NDArray, C: NDArray, V: NDArray, on_cols: NDArray, small: float
) -> tuple[NDArray, NDArray]:
    """U C V^H as a sum over pivots of C: (U C[:, b]) (C[a] V^H) / C[a, b].

    Each such vector lives on the runs of the columns that it combines. Pivots that widen
    their own runs the least come first.
    """
    negligible = small * float(np.abs(C).max())
    left, right = [], []
    for _ in range(len(C)):
        live = np.abs(C) > negligible
        if not live.any():
            break
        height, width = _reach(live.T, on_rows), _reach(live, on_cols)
        wider = height[None] - on_rows.sum(1)[:, None] + width[:, None] - on_cols.sum(1)[None]
        a, b = np.unravel_index(np.argmin(np.where(live, wider, np.inf)), C.shape)
        u = U @ np.where(live[:, b], C[:, b], 0) / C[a, b]
        v = V @ np.where(live[a], C[a], 0).conj()
        balance = np.sqrt(np.linalg.norm(v) / np.linalg.norm(u))
        left.append(u * balance)
        right.append(v / balance)
        C = C - np.outer(C[:, b], C[a]) / C[a, b]
        C[a], C[:, b] = 0, 0
    return np.reshape(left, (-1, len(U))).T, np.reshape(right, (-1, len(V))).T


def _reach(together: NDArray, masks: NDArray) -> NDArray:
    """Width of the shortest run around all the runs that each row of `together` picks."""
    n = masks.shape[1]
    covered = together.astype(np.float64) @ masks > 0
    return n - best_runs(np.where(covered, -2.0 * n, 1.0))[2]


def _split(block: Block, shape: tuple[int, ...], small: float) -> list[Block]:
    """Cut a block in two wherever zeros inside one run outnumber the entries of the other."""
    row, u, col, v = block
    if (cut := _longest_gap(u, v.size, small)) is not None:
        before, after = cut
        parts = Block(row, u[:before], col, v), Block((row + after) % shape[0], u[after:], col, v)
    elif (cut := _longest_gap(v, u.size, small)) is not None:
        before, after = cut
        parts = Block(row, u, col, v[:before]), Block(row, u, (col + after) % shape[1], v[after:])
    else:
        return [block]
    return [piece for part in parts for piece in _split(part, shape, small)]


def _longest_gap(x: NDArray, most: int, small: float) -> tuple[int, int] | None:
    """Beginning and end of the longest run of zeros inside x, if it is longer than `most`."""
    size = np.abs(x)
    at = np.flatnonzero(size > small * size.max())
    gap = np.diff(at) - 1
    if gap.max(initial=0) <= most:
        return None
    k = int(gap.argmax())
    return int(at[k]) + 1, int(at[k + 1])
