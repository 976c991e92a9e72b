"""Pictures: what is counted is what the blocks cover, whatever the kind."""

import sys

import numpy as np
import pytest

import structmat
from structmat.errors import InputError, MissingDependencyError, ShapeError, StructmatError
from structmat.plot import structure

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    from matplotlib import pyplot as plt

    yield
    plt.close("all")


def rng():
    return np.random.default_rng(4)


def brute_force(A):
    """How many rank-one blocks of a GBLR matrix cover each entry, entry by entry."""
    m, n = A.shape
    count = np.zeros((m, n), int)
    runs = zip(A.row_start, A.row_width, A.col_start, A.col_width, strict=True)
    for row, height, col, width in runs:
        for i in range(height):
            for j in range(width):
                count[(row + i) % m, (col + j) % n] += 1
    return count


def gblr(m=9, n=7):
    random = rng()
    row_width, col_width = random.integers(0, m + 1, 6), random.integers(0, n + 1, 6)
    return structmat.GBLR(
        random.integers(0, m, 6), row_width, np.ones(row_width.sum()),
        random.integers(0, n, 6), col_width, np.ones(col_width.sum()), shape=(m, n),
    )  # fmt: skip


def low_rank():
    return structmat.LowRank(rng().standard_normal((9, 3)), rng().standard_normal((7, 3)))


def block_sparse():
    blocks = rng().standard_normal((3, 4, 3))
    return structmat.BlockSparse(blocks, [0, 1, 2], [1, 2, 0], shape=(9, 7))


def block_low_rank():
    tiles = {
        (0, 0): (np.ones((4, 2)), np.ones((3, 2))),
        (1, 1): np.outer(np.arange(1.0, 6), np.ones(4)),
        (1, 0): (np.ones((5, 0)), np.ones((3, 0))),
    }
    return structmat.BlockLowRank(tiles, row_sizes=[4, 5], col_sizes=[3, 4])


def monarch():
    L, R = rng().standard_normal((3, 3, 4)), rng().standard_normal((4, 3, 2))
    return structmat.Monarch(L, R, shape=(9, 7))


def counts(ax):
    return np.asarray(ax.images[0].get_array())


def cells(m, n, *parts):
    """Counts from (rows, columns, number) parts."""
    result = np.zeros((m, n), int)
    for rows, cols, number in parts:
        result[rows, cols] += number
    return result


def test_gblr_counts_overlaps():
    A = gblr()
    assert brute_force(A).max() > 1
    np.testing.assert_array_equal(counts(structure(A)), brute_force(A))
    np.testing.assert_array_equal(A.coverage(), brute_force(A))


def test_gblr_wraps_around_both_edges():
    A = structmat.GBLR([3], [2], np.ones(2), [4], [3], np.ones(3), shape=(4, 5))
    expected = cells(4, 5, (np.ix_([3, 0], [4, 0, 1])[0], np.ix_([3, 0], [4, 0, 1])[1], 1))
    np.testing.assert_array_equal(counts(structure(A)), expected)


def test_low_rank_is_one_even_sheet():
    np.testing.assert_array_equal(counts(structure(low_rank())), np.full((9, 7), 3))


def test_block_sparse_counts_the_rank_of_each_block():
    # Blocks of full rank on a 4x3 grid; the last ones are ragged, 1x3 and 4x1.
    expected = cells(
        9, 7, (slice(0, 4), slice(3, 6), 1), (slice(4, 8), slice(6, 7), 1), (8, slice(0, 3), 1)
    )
    np.testing.assert_array_equal(counts(structure(block_sparse())), expected)


def test_block_low_rank_counts_the_rank_of_each_tile():
    # The dense tile of rank one is one block, the tile of rank zero none.
    expected = cells(9, 7, (slice(0, 4), slice(0, 3), 2), (slice(4, 9), slice(3, 7), 1))
    np.testing.assert_array_equal(counts(structure(block_low_rank())), expected)


def test_monarch_counts_in_its_own_row_order():
    A = monarch()
    # Output i l + j and input c p + d share the middle indices t with t mod l = j, t // q = c.
    (l, _, _), (_, q, p) = A.L.shape, A.R.shape
    share = [
        [sum(t % l == i % l and t // q == d // p for t in range(12)) for d in range(7)]
        for i in range(9)
    ]
    np.testing.assert_array_equal(counts(structure(A)), share)


def test_dense_counts_the_rank_where_that_is_cheapest():
    np.testing.assert_array_equal(
        counts(structure(structmat.Dense(np.ones((4, 5))))), np.ones((4, 5))
    )
    # A full matrix is cheapest row by row, one block a row, or column by column.
    np.testing.assert_array_equal(
        counts(structure(structmat.Dense(rng().standard_normal((4, 5))))), np.ones((4, 5))
    )


def test_permutation_shows_its_entries():
    P = structmat.Permutation([2, 0, 1])
    np.testing.assert_array_equal(counts(structure(P)), np.eye(3)[[2, 0, 1]])


@pytest.mark.parametrize("factor", [2, -0.5, 1j])
def test_a_factor_changes_nothing(factor):
    M = monarch()
    np.testing.assert_array_equal(counts(structure(factor * M)), counts(structure(M)))
    scaled = factor * M.H
    assert scaled.kind == "scaled"
    np.testing.assert_array_equal(counts(structure(scaled)), counts(structure(M)).T)


def test_adjoints_are_transposed():
    for A in (gblr(), low_rank(), block_sparse(), block_low_rank(), monarch()):
        np.testing.assert_array_equal(counts(structure(A.H)), counts(structure(A)).T)


def test_sums_add_up():
    A, B, C = gblr(), block_sparse(), monarch()
    S = A + B + C
    assert S.kind == "sum"
    expected = sum(counts(structure(M)) for M in (A, B, C))
    np.testing.assert_array_equal(counts(structure(S)), expected)


def test_a_permutation_in_front_moves_rows():
    p = rng().permutation(9)
    A = structmat.Permutation(p) @ gblr()
    assert A.kind == "product"
    np.testing.assert_array_equal(counts(structure(A)), brute_force(gblr())[p])


def test_other_products_show_what_is_not_zero():
    B = structmat.BlockSparse(np.ones((1, 4, 3)), [1], [1], shape=(9, 7))
    A = block_sparse() @ B.H
    assert A.kind == "product"
    np.testing.assert_array_equal(counts(structure(A)), A.to_dense() != 0)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_dtypes_do_not_matter(dtype):
    for A in (gblr(), low_rank(), block_low_rank(), monarch()):
        np.testing.assert_array_equal(counts(structure(A.astype(dtype))), counts(structure(A)))


@pytest.mark.parametrize("backend", ["array_api_strict", "torch"])
def test_libraries_do_not_matter(backend):
    pytest.importorskip(backend)
    matrices = [gblr(), low_rank(), block_sparse(), block_low_rank(), monarch(), 2 * monarch().H]
    reversal = structmat.Permutation(np.arange(9)[::-1].copy())
    matrices += [reversal, reversal @ gblr(), gblr() + monarch()]
    for A in matrices:
        np.testing.assert_array_equal(counts(structure(A.to(backend))), counts(structure(A)))


def test_a_torch_matrix_that_records_gradients_is_drawn():
    torch = pytest.importorskip("torch")
    U = torch.ones(4, 2, requires_grad=True)
    np.testing.assert_array_equal(counts(structure(structmat.LowRank(U, U))), np.full((4, 4), 2))
    np.testing.assert_array_equal(counts(structure(structmat.Dense(U))), np.ones((4, 2)))


# The picture.


def test_the_axes_say_what_they_show():
    ax = structure(gblr())
    percent = 100 * gblr().cost / 63
    assert ax.get_title() == f"GBLR 9x7, cost {percent:.3g} %"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("column", "row")
    assert ax.images[0].colorbar.ax.get_ylabel() == "blocks on an entry"


def test_row_zero_is_at_the_top_and_entries_lie_where_they_are():
    image = structure(structmat.Permutation([1, 2, 0])).images[0]
    assert tuple(image.get_extent()) == (0, 3, 3, 0)
    assert image.origin == "upper"


def test_several_stand_side_by_side_on_scales_of_their_own():
    matrices = [low_rank(), block_sparse(), gblr()]
    for given in (matrices, tuple(matrices)):
        axes = structure(given)
        assert len(axes) == 3
        assert len({id(ax.figure) for ax in axes}) == 1
        for ax, A in zip(axes, matrices, strict=True):
            assert ax.images[0].get_clim() == (0, counts(ax).max())
            np.testing.assert_array_equal(counts(ax), counts(structure(A)))


def test_one_in_a_list_gives_a_list():
    assert len(structure([gblr()])) == 1


def test_given_axes_are_drawn_on():
    from matplotlib import pyplot as plt

    ax = plt.subplots()[1]
    assert structure(gblr(), ax=ax) is ax
    assert len(plt.get_fignums()) == 1
    axes = plt.subplots(2, 2)[1]
    drawn = structure([gblr(), low_rank(), monarch(), block_sparse()], ax=axes)
    assert list(drawn) == list(axes.ravel())
    assert all(len(ax.images) == 1 for ax in axes.ravel())
    assert len(plt.get_fignums()) == 2
    assert structure([gblr()], ax=ax)[0] is ax


def test_figures_are_written(tmp_path):
    axes = structure([gblr(), monarch()])
    axes[0].figure.savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0)])
def test_empty_matrices_are_drawn(shape, tmp_path):
    m, n = shape
    matrices = [
        structmat.LowRank(np.ones((m, 2)), np.ones((n, 2))),
        structmat.GBLR([], [], [], [], [], [], shape=shape),
        structmat.Dense(np.ones(shape)),
    ]
    for ax in structure(matrices):
        assert counts(ax).sum() == 0
    ax.figure.savefig(tmp_path / "a.png")


def test_matrices_of_zero_have_a_scale_of_their_own():
    A = structmat.GBLR([], [], [], [], [], [], shape=(3, 4))
    ax = structure(A)
    assert ax.images[0].get_clim() == (0, 1)
    np.testing.assert_array_equal(counts(ax), np.zeros((3, 4)))


def test_large_matrices_are_thinned_but_thin_blocks_stay_visible():
    m, n = 2500, 1500
    u, v = np.ones(m + 1), np.ones(n + 1)
    A = structmat.GBLR([1201, 0], [1, m], u, [0, 7], [n, 1], v, shape=(m, n))
    ax = structure(A)
    seen = counts(ax)
    assert max(seen.shape) <= 1024
    # The row at 1201 and the column at 7, in cells of 3x2 entries; they cross in one.
    assert seen.shape == (834, 750)
    np.testing.assert_array_equal(np.flatnonzero(seen[:, 100]), [400])
    np.testing.assert_array_equal(np.flatnonzero(seen[100]), [3])
    assert seen[400, 3] == seen.max() == 2
    assert tuple(ax.images[0].get_extent()) == (0, n, m, 0)


@pytest.mark.parametrize("shape", [(3000, 2), (2, 3000)])
def test_long_matrices_fill_the_picture(shape):
    A = structmat.LowRank(np.ones((shape[0], 1)), np.ones((shape[1], 1)))
    ax = structure(A)
    assert max(counts(ax).shape) <= 1024
    assert min(counts(ax).shape) == 2
    assert ax.get_aspect() == "auto"


def test_the_matrix_is_not_changed():
    A = gblr()
    before = [np.array(x) for x in (A.u, A.v, A.row_start, A.row_width)]
    structure(A)
    for x, y in zip((A.u, A.v, A.row_start, A.row_width), before, strict=True):
        np.testing.assert_array_equal(x, y)


# Refusals.


@pytest.mark.parametrize("wrong", [5, None, "gblr", np.eye(3), [], (), [None], {}])
def test_what_is_no_matrix_is_refused(wrong):
    with pytest.raises(InputError, match="expected a StructuredMatrix or a sequence of them"):
        structure(wrong)


def test_one_wrong_among_several_is_refused():
    with pytest.raises(InputError, match="expected a StructuredMatrix or a sequence of them"):
        structure([gblr(), np.eye(3)])


def test_the_number_of_axes_has_to_match():
    from matplotlib import pyplot as plt

    axes = plt.subplots(1, 2)[1]
    with pytest.raises(ShapeError, match=r"2 axes for 3 matrices; expected one axes a matrix"):
        structure([gblr()] * 3, ax=axes)
    with pytest.raises(ShapeError, match=r"2 axes for 1 matrices"):
        structure(gblr(), ax=axes)
    with pytest.raises(ShapeError, match=r"1 axes for 2 matrices"):
        structure([gblr()] * 2, ax=axes[0])
    assert not any(ax.images for ax in axes)


@pytest.mark.parametrize("wrong", [5, "axes", [1]])
def test_what_is_no_axes_is_refused(wrong):
    with pytest.raises(StructmatError, match="expected"):
        structure(gblr(), ax=wrong)


@pytest.mark.parametrize("missing", ["matplotlib", "matplotlib.pyplot"])
def test_a_missing_matplotlib_names_the_extra(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingDependencyError, match=r"structmat\[plot\]") as caught:
        structure(gblr())
    assert isinstance(caught.value, ImportError)
    assert "matplotlib is not installed" in str(caught.value)
