"""Local matrices as distributed ones, by tasks that hold their parts."""

from structmat.distributed import DistributedMatrix
from structmat.distributed.part import parts_of


def distribute(A, client, count=4, source=None):
    futures = client.map(lambda part: part, parts_of(A, count), pure=False)
    return DistributedMatrix(
        client,
        futures,
        shape=A.shape,
        row_order=A.row_order,
        col_order=A.col_order,
        source=source,
    )
