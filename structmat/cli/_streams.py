"""Standard streams: what is printed arrives, or the status says that it did not."""

import os
import sys
from contextlib import suppress
from typing import IO

#: Status after the reader of the output has gone, as after SIGPIPE.
GONE = 141


def open_streams() -> None:
    """Let closed standard streams lead nowhere, before files would take their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def show(text: str) -> int:
    """Print to standard output to the last byte; the status of the process.

    Characters that its encoding lacks become question marks.
    """
    try:
        if sys.stdout is not None:
            _print(text, sys.stdout)
        return 0
    except BrokenPipeError:
        _leave()
        return GONE
    except OSError as error:
        _leave()
        complain(f"cannot print the result ({error.strerror or error})")
        return 1


def complain(message: str) -> None:
    """Print a message to standard error, as one line; nothing can be done where that fails."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            _print(f"structmat: {' '.join(message.split())}", sys.stderr)


def _print(text: str, stream: IO[str]) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), file=stream, flush=True)


def _leave() -> None:
    """Let what is left in the buffer of standard output go nowhere, also at the end."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
