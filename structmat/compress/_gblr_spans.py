"""Blocks of a matrix that is exactly a sum of few of them: minimal spans of its factors.

If A = U V^H has rank K and column k of U lives on a run, these columns are the basis of
the column space of least total span. Every position starts exactly one shortest
vector of the space (a characteristic generator; Koetter & Vardy 2003 for codes), and
the K shortest independent ones are such a basis. The same for V; what couples the two
bases is then eliminated to one entry a row and column.
"""

import numpy as np
from numpy.typing import NDArray

from structmat.compress._gblr_residual import Block, take
from structmat.intervals import best_runs, run_mask

__all__ = ["span_blocks"]

#: Distances below which a row counts as dependent. No single one is right everywhere, and
#: a wrong run is recognised later on, so the runs of all of them are gathered.
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
#: Highest rank, and most rows times rank cubed, for which the search for spans is quick.
MOST_RANK = 96
MOST_WORK = 1e8

Run = tuple[int, int]


def span_blocks(A: NDArray, rng: np.random.Generator) -> list[Block]:
    """The blocks, one for each of A's rank; empty where there are no short spans."""
    bases = _bases(A, rng)
    if bases is None:
        return []
    Q, P = bases
    rows, columns = _shortest_basis(Q), _shortest_basis(P)
    if rows is None or columns is None:
        return []
    (row_runs, U), (col_runs, V) = rows, columns
    core = np.linalg.lstsq(U, A, rcond=None)[0]
    core = np.linalg.lstsq(V, core.conj().T, rcond=None)[0].conj().T
    return _eliminate(U, row_runs, core, V, col_runs)


def _bases(A: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray] | None:
    """Orthonormal bases of the column and row spaces, if these are small enough."""
    m, n = A.shape
    most = min(MOST_RANK, min(m, n) // 2)
    wide = A @ rng.standard_normal((n, most + 8)).astype(A.dtype)
    X, s, _ = np.linalg.svd(wide, full_matrices=False)
    rank = int((s > s[0] * np.finfo(A.dtype).eps * max(m, n)).sum())
    if not 0 < rank <= most or max(m, n) * rank**3 > MOST_WORK:
        return None
    Q = X[:, :rank]
    P, _ = np.linalg.qr(A.conj().T @ Q)
    return Q, P


def _shortest_basis(Q: NDArray) -> tuple[list[Run], NDArray] | None:
    """Runs of least total width on which a basis of the column space of Q lives."""
    m, r = Q.shape
    candidates: set[Run] = set()
    for tolerance in TOLERANCES:
        candidates |= _generators(Q, tolerance)
        mirrored = _generators(Q[::-1], tolerance)
        candidates |= {(width, -(start + width) % m) for width, start in mirrored}
    done = np.zeros((r, 0), Q.dtype)
    runs, vectors = [], []
    for width, start in sorted(candidates):
        z = _vector_on(Q, start, width)
        new = z - done @ (done.conj().T @ z)
        size = np.linalg.norm(new)
        if size > 1e-6:
            done = np.column_stack([done, new / size])
            runs.append((start, width))
            vectors.append(Q @ z)
            if len(runs) == r:
                return runs, np.column_stack(vectors)
    return None


def _generators(Q: NDArray, tolerance: float) -> set[Run]:
    """(width, start) of the shortest vector of the space that starts at each position.

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


def _vector_on(Q: NDArray, start: int, width: int) -> NDArray:
    """Unit z with Q z zero outside the run and not at its start; zero if there is none."""
    m, r = Q.shape
    beyond = Q[(start + width + np.arange(m - width)) % m]
    _, s, Zh = np.linalg.svd(beyond, full_matrices=True)
    null = Zh[np.concatenate([s, np.zeros(r - s.size, s.dtype)]) < 1e-8]
    z = null.conj().T @ (null @ Q[start].conj())
    size = np.linalg.norm(z)
    return z / size if size > 1e-10 else np.zeros(r, Q.dtype)


def _eliminate(
    U: NDArray, row_runs: list[Run], C: NDArray, V: NDArray, col_runs: list[Run]
) -> list[Block]:
    """U C V^H as one block a pivot of C: (U C[:, b]) (C[a] V^H) / C[a, b].

    A block lives where the vectors that C[:, b] and C[a] combine live; the pivots are
    those that widen their own runs the least.
    """
    on_rows, on_cols = _masks(row_runs, U.shape[0]), _masks(col_runs, V.shape[0])
    negligible = 1e-8 * float(np.abs(C).max())
    blocks = []
    for _ in range(len(row_runs)):
        live = np.abs(C) > negligible
        if not live.any():
            break
        row, height = _hulls(live.T, on_rows)
        col, reach = _hulls(live, on_cols)
        excess = height[None] - on_rows.sum(1)[:, None] + reach[:, None] - on_cols.sum(1)[None]
        a, b = np.unravel_index(np.argmin(np.where(live, excess, np.inf)), C.shape)
        left = U @ np.where(live[:, b], C[:, b], 0) / C[a, b]
        right = V @ np.where(live[a], C[a], 0).conj()
        u, v = take(left, int(row[b]), int(height[b])), take(right, int(col[a]), int(reach[a]))
        blocks.append(Block(int(row[b]), u, int(col[a]), v))
        C = C - np.outer(C[:, b], C[a]) / C[a, b]
        C[a], C[:, b] = 0, 0
    return blocks


def _masks(runs: list[Run], n: int) -> NDArray[np.bool_]:
    start, width = np.array(runs).T
    return run_mask(start, width, n)


def _hulls(together: NDArray, masks: NDArray) -> tuple[NDArray, NDArray]:
    """Shortest run around all the runs that each row of `together` picks."""
    n = masks.shape[1]
    covered = together.astype(np.float64) @ masks > 0
    _, start, gap = best_runs(np.where(covered, -2.0 * n, 1.0))
    return (start + gap) % n, n - gap
