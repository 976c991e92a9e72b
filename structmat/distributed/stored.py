"""`load`: the matrix of a folder, on workers or on this machine."""

import os
from typing import Any

from structmat.distributed.folder import RESULT, Folder
from structmat.distributed.graph import Graph
from structmat.distributed.matrix import DistributedMatrix
from structmat.distributed.tile_parts import whole
from structmat.errors import FileFormatError
from structmat.files.paths import name_of
from structmat.matrix import StructuredMatrix


def load(
    folder: str | os.PathLike[str], client: Any = None
) -> DistributedMatrix | StructuredMatrix:
    """Read the matrix that a compression has left in a folder.

    Parameters
    ----------
    folder : path-like
        The `folder` of a complete `structmat.compress`.
    client : distributed.Client, optional
        Cluster on whose workers the parts are to lie; all of them have to see the folder.

    Returns
    -------
    DistributedMatrix, or StructuredMatrix without a client
        Without a client all parts are read on this machine, and joined.

    Raises
    ------
    FileFormatError
        If the folder has no complete compression, or a file is damaged. After such a file has
        been deleted, `structmat.compress` of the same source with the folder builds that part
        again, alone.

    Examples
    --------
    >>> import structmat.distributed
    >>> structmat.distributed.load("nowhere")
    Traceback (most recent call last):
    ...
    structmat.errors.FileFormatError: 'nowhere' has no result.json: no compression was completed ...
    """
    name = name_of(folder)
    place = Folder(name)
    facts = place.result
    if facts is None:
        raise FileFormatError(
            f"{name!r} has no {RESULT}: no compression was completed there; expected the folder "
            "of structmat.compress(…, client=, folder=), which goes on with one that was stopped"
        )
    rows, cols = place.orders()
    store, numbers = place.store_of(facts["fit"]), range(facts["count"])
    shape = facts["shape"][0], facts["shape"][1]
    if client is None:
        return whole([store.read_part(i) for i in numbers], shape, rows, cols)
    place.check_seen(client)
    graph = Graph(client)
    futures = graph.run([graph.add("read", [i], (store.read_part, i)) for i in numbers])
    return DistributedMatrix(client, futures, shape=shape, row_order=rows, col_order=cols)
