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
from structmat.compress.svd import numerical_rank
from structmat.intervals import best_runs, run_mask

#: Relative distances below which a row counts as dependent. No single one is right
#: everywhere, and a wrong run is recognised later on, so the runs of all are gathered.
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
#: Highest rank for which the search for spans is quick.
MOST_RANK = 96
#: Most rows times rank cubed for which the search for spans is quick.
MOST_OPERATIONS = 1e8
#: Most passes over all pairs of blocks at the end.
MENDING_PASSES = 20

#: A cyclic run: start and width, unless said otherwise.
Run = tuple[int, int]


def span_blocks(A: NDArray, rng: np.random.Generator) -> list[Block]:
    """The blocks, as many as A's rank; empty if there are no short spans."""
    small = float(np.sqrt(np.finfo(A.dtype).eps))
    bases = _bases(A, rng)
    if bases is None:
        return []
    rows, columns = (_shortest_basis(Q, small) for Q in bases)
    if rows is None or columns is None:
        return []
    (U, on_rows), (V, on_cols) = rows, columns
    core = np.linalg.lstsq(U, A, rcond=None)[0]
    core = np.linalg.lstsq(V, core.conj().T, rcond=None)[0].conj().T
    U, V = _eliminate(U, on_rows, core, V, on_cols, small)
    U, V = _mend(U, V, small)
    blocks = []
    for u, v in zip(U.T, V.T, strict=True):
        (row, height), (col, width) = _hull(u, small), _hull(v, small)
        if height and width:
            blocks.append(Block(row, take(u, row, height), col, take(v, col, width)))
    return [Block(b.row, b.u.astype(A.dtype), b.col, b.v.astype(A.dtype)) for b in blocks]


def _bases(A: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray] | None:
    """Orthonormal bases of the column and row spaces, if the rank is small enough."""
    m, n = A.shape
    most = min(MOST_RANK, min(m, n) // 2)
    wide = A @ rng.standard_normal((n, most + 8)).astype(A.dtype)
    X, s, _ = np.linalg.svd(wide, full_matrices=False)
    rank = numerical_rank(s, A.shape)
    if not 0 < rank <= most or max(m, n) * rank**3 > MOST_OPERATIONS:
        return None
    Q = X[:, :rank].astype(np.result_type(A, np.float64))
    P, _ = np.linalg.qr(A.conj().T @ Q)
    return Q, P


def _shortest_basis(Q: NDArray, small: float) -> tuple[NDArray, NDArray] | None:
    """Basis of the column space of Q on runs of least total width, and masks of the runs."""
    m, r = Q.shape
    candidates: set[Run] = set()
    for tolerance in TOLERANCES:
        if tolerance < small:
            break
        candidates |= _generators(Q, tolerance)
        mirrored = _generators(Q[::-1], tolerance)
        candidates |= {(width, -(start + width) % m) for width, start in mirrored}
    done = np.zeros((r, 0), Q.dtype)
    runs, vectors = [], []
    for width, start in sorted(candidates):
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


def _generators(Q: NDArray, tolerance: float) -> set[Run]:
    """(width, start) of the shortest vector of the space at each of its starts.

    Let J be the basis of rows found greedily from `start` - 1 backwards. Row `start`
    put in front of it makes one of its members dependent: the vector's last position.
    """
    m, r = Q.shape
    size = np.linalg.norm(Q, axis=1)
    live = size > 1e-10 * size.max()
    rows = Q / np.where(live, size, np.inf)[:, None]
    basis: list[int] = []
    found = np.zeros((r, 0), Q.dtype)
    for y in range(m - 1, -1, -1):
        x = rows[y] - found.conj() @ (found.T @ rows[y])
        x -= found.conj() @ (found.T @ x)
        distance = np.linalg.norm(x)
        if distance > tolerance:
            found = np.column_stack([found, (x / distance).conj()])
            basis.append(y)
    runs = set()
    for start in np.flatnonzero(live):
        basis.insert(0, int(start))
        pivots = np.abs(np.diagonal(np.linalg.qr(rows[basis].T, mode="r")))
        dependent = np.flatnonzero(pivots < tolerance)
        end = basis.pop(int(dependent[0]) if dependent.size else len(basis) - 1)
        runs.add(((end - int(start)) % m + 1, int(start)))
    return runs


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


def _hull(x: NDArray, small: float) -> Run:
    """Shortest run around all entries that are not negligible."""
    n, size = x.size, np.abs(x)
    _, start, gap = best_runs(np.where(size > small * size.max(), -2.0 * n, 1.0)[None])
    return int(start[0] + gap[0]) % n, int(n - gap[0])


def _mend(U: NDArray, V: NDArray, small: float) -> tuple[NDArray, NDArray]:
    """Undo unlucky pivots: U V^H = (U + t u_j e_i^T) (V - t' v_i e_j^T)^H, if shorter.

    Only a pair of runs that share an end can gain; t cancels the entry there.
    """
    runs = [[_hull(x, small) for x in X.T] for X in (U, V)]
    for _ in range(MENDING_PASSES):
        before = sum(width for side in runs for _, width in side)
        _mend_side(U, V, runs[0], runs[1], small)
        _mend_side(V, U, runs[1], runs[0], small)
        if sum(width for side in runs for _, width in side) == before:
            break
    return U, V


def _mend_side(X: NDArray, Y: NDArray, own: list[Run], other: list[Run], small: float) -> None:
    """Shorten the runs of X's columns by each other, at the expense of runs of Y; in place."""
    n, k = X.shape
    for i in range(k):
        for j in range(k):
            for last in (False, True):
                p, q = (_end(own[index], last, n) for index in (i, j))
                if i == j or p != q or X[p, j] == 0:
                    continue
                t = -X[p, i] / X[p, j]
                x, y = X[:, i] + t * X[:, j], Y[:, j] - np.conj(t) * Y[:, i]
                x[p] = 0
                shorter, longer = _hull(x, small), _hull(y, small)
                if shorter[1] + longer[1] < own[i][1] + other[j][1]:
                    X[:, i], Y[:, j] = x, y
                    own[i], other[j] = shorter, longer


def _end(run: Run, last: bool, n: int) -> int:
    return (run[0] + (run[1] - 1 if last else 0)) % n
