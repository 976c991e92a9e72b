"""Records of structmat's own kinds, in the order of tables."""

from structmat.kinds.record import Kind

# Colours of Okabe and Ito, which colour-blind readers tell apart as well.
BUILT_IN = (
    Kind("dense", "dense", "#777777", "structmat.matrices.dense:Dense"),
    Kind(
        "low_rank", "low rank", "#E69F00",
        "structmat.matrices.low_rank:LowRank",
        "structmat.compress.low_rank:fit",
        "structmat.compress.low_rank:fit_implicit",
        fit_entries="structmat.compress.entries.low_rank:fit_entries",
        factorize="structmat.solvers.direct.woodbury:factorize",
    ),
    Kind(
        "block_sparse", "block sparse", "#56B4E9",
        "structmat.matrices.block_sparse:BlockSparse",
        "structmat.compress.block_sparse:fit",
        factorize=(
            "structmat.solvers.direct.block_diagonal:factorize",
            "structmat.solvers.direct.tiles:factorize",
            "structmat.solvers.direct.banded:factorize",
            "structmat.solvers.direct.block_diagonal:factorize_all",
        ),
    ),
    Kind(
        "block_low_rank", "block low rank", "#009E73",
        "structmat.matrices.block_low_rank:BlockLowRank",
        "structmat.compress.block_low_rank:fit",
        "structmat.compress.products.block_low_rank:fit_implicit",
        "structmat.compress.entries.block_low_rank:fit_entries",
        factorize=(
            "structmat.solvers.direct.block_diagonal:factorize",
            "structmat.solvers.direct.woodbury:factorize",
            "structmat.solvers.direct.tiles:factorize",
            "structmat.solvers.direct.banded:factorize",
            "structmat.solvers.direct.block_diagonal:factorize_all",
        ),
    ),
    Kind(
        "monarch", "Monarch", "#CC79A7",
        "structmat.matrices.monarch:Monarch",
        "structmat.compress.monarch:fit",
        "structmat.compress.products.monarch:fit_implicit",
        factorize="structmat.solvers.direct.products:factorize_monarch",
    ),
    # A recipe of structmat.nn, which fits it to torch's tensors.
    Kind("pixelfly", "Pixelfly", "#0072B2"),
    Kind(
        "gblr", "GBLR", "#D55E00",
        "structmat.matrices.gblr:GBLR",
        "structmat.compress.gblr.portfolio:fit",
        "structmat.compress.gblr.implicit:fit_implicit",
        fit_entries="structmat.compress.entries.gblr:fit_entries",
        factorize=(
            "structmat.solvers.direct.block_diagonal:factorize",
            "structmat.solvers.direct.woodbury:factorize",
            "structmat.solvers.direct.banded:factorize",
            "structmat.solvers.direct.block_diagonal:factorize_all",
        ),
    ),
    Kind(
        "hierarchical", "hierarchical", "#000000",
        "structmat.matrices.hierarchical:Hierarchical",
        "structmat.compress.hierarchical.arrays:fit",
        "structmat.compress.products.hierarchical:fit_implicit",
        fit_entries="structmat.compress.hierarchical.fit:fit_entries",
        factorize="structmat.solvers.hierarchical.direct:factorize",
    ),
    Kind(
        "permutation", matrix="structmat.matrices.permutation:Permutation",
        factorize=(
            "structmat.solvers.direct.simple:factorize_permutation",
            "structmat.solvers.direct.banded:factorize",
        ),
    ),
    Kind(
        "identity", matrix="structmat.matrices.diagonal:Identity",
        factorize="structmat.solvers.direct.simple:factorize_diagonal",
    ),
    Kind(
        "diagonal", matrix="structmat.matrices.diagonal:Diagonal",
        factorize="structmat.solvers.direct.simple:factorize_diagonal",
    ),
    Kind(
        "kernel", matrix="structmat.sources.kernel_matrix:KernelMatrix",
        factorize="structmat.solvers.hierarchical.points:factorize",
    ),
    Kind(
        "entries", matrix="structmat.sources.entries:Entries",
        factorize="structmat.solvers.hierarchical.points:factorize",
    ),
    Kind(
        "sum", matrix="structmat.matrices.lazy:Sum",
        factorize=(
            "structmat.solvers.direct.block_diagonal:factorize",
            "structmat.solvers.direct.woodbury:factorize",
            "structmat.solvers.direct.tiles:factorize",
            "structmat.solvers.hierarchical.direct:factorize_sum",
            "structmat.solvers.hierarchical.points:factorize_sum",
            "structmat.solvers.direct.banded:factorize",
        ),
    ),
    Kind(
        "product", matrix="structmat.matrices.lazy:Product",
        factorize=(
            "structmat.solvers.direct.products:factorize",
            "structmat.solvers.direct.woodbury:factorize",
            "structmat.solvers.direct.banded:factorize",
        ),
    ),
    Kind(
        "scaled", matrix="structmat.matrices.lazy:Scaled",
        factorize="structmat.solvers.direct.simple:factorize_scaled",
    ),
    Kind(
        "adjoint", matrix="structmat.matrices.lazy:Adjoint",
        factorize="structmat.solvers.direct.simple:factorize_adjoint",
    ),
    Kind(
        "kronecker", "Kronecker", matrix="structmat.matrices.kronecker:Kronecker",
        factorize=(
            "structmat.solvers.direct.kronecker:factorize",
            "structmat.solvers.direct.woodbury:factorize",
            "structmat.solvers.direct.banded:factorize",
        ),
    ),
    Kind(
        "grid", matrix="structmat.matrices.grid:Grid",
        factorize=(
            "structmat.solvers.direct.block_diagonal:factorize",
            "structmat.solvers.direct.triangular:factorize",
            "structmat.solvers.direct.woodbury:factorize",
            "structmat.solvers.direct.banded:factorize",
        ),
    ),
    Kind(
        "operator", matrix="structmat.matrices.foreign:ForeignOperator",
        factorize="structmat.distributed.matrix:factorize_operator",
    ),
    Kind(
        "mirrored", matrix="structmat.matrices.hermitian:Mirrored",
        factorize=(
            "structmat.solvers.direct.woodbury:factorize",
            "structmat.solvers.direct.banded:factorize",
        ),
    ),
    Kind(
        "hermitian_low_rank", "Hermitian low rank",
        matrix="structmat.matrices.hermitian:HermitianLowRank",
        factorize="structmat.solvers.direct.woodbury:factorize",
    ),
)  # fmt: skip
