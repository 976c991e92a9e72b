"""Order of the examples in the gallery: from a matrix to networks, own structures and libraries."""

EXAMPLES = (
    "compress_and_solve", "five_structures", "moving_blocks", "gaussian_process",
    "learn_blocks", "calibrate_trained", "export_frozen", "own_structure", "array_libraries",
)  # fmt: skip


def place(file: str) -> int:
    """Place of an example's file; a new one needs a place of its own."""
    return EXAMPLES.index(file.removesuffix(".py"))
