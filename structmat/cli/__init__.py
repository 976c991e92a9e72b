"""The command line: arguments to library calls to a table.

``structmat learn`` trains structured networks side by side. ``structmat compare`` shows
all structures on one matrix, ``compress`` writes one, ``solve`` solves a system with it,
``info`` and ``plot`` show the matrix in a file, and ``report`` writes a page on it, or on a
network. ``calibrate`` measures the kernels of the present machine.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import NoReturn

import structmat
from structmat.cli._calibrate import add_calibrate
from structmat.cli._common import whole
from structmat.cli._compare import add_compare
from structmat.cli._learn import add_learn
from structmat.cli._matrices import add_compress, add_info, add_plot
from structmat.cli._report import add_report
from structmat.cli._solve import add_solve
from structmat.cli._streams import complain, open_streams, show
from structmat.errors import StructmatError

_EXAMPLES = """\
examples:
  structmat compare
      shows all structures on a matrix that ships with structmat
  structmat compress A.npy --budget 0.2 -o small.npz
      compresses your matrix; info, plot, report and solve take the file
  structmat compress --help
      shows the options of a command, with examples
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    `arguments` are the words after the program's name, by default those of the process. The
    status is 0 on success, and 1 after an error, whose message goes to standard error in one
    line. It is 130 after an interrupt, and 141 if the reader of the output went away. For
    arguments that argparse refuses, the process exits with status 2.
    """
    open_streams()
    try:
        import_kinds()
        options = _parser().parse_args(arguments)
        report = options.run(options)
        return show(json.dumps(report.figures, indent=2) if options.json else report.text)
    except BrokenPipeError:  # from argparse, which prints help
        return show("")
    except StructmatError as error:
        complain(str(error))
        return 1
    except OSError as error:
        complain(_told(error))
        return 1
    except MemoryError as error:
        complain(f"not enough memory ({error}); expected a smaller matrix, or more memory")
        return 1
    except KeyboardInterrupt:
        complain("interrupted")
        return 130


def _told(error: OSError) -> str:
    """The message of an error of the system, with the remedy."""
    if error.filename is None:
        return str(error)
    remedy = "expected a file that can be read (choose another name)"
    if isinstance(error, FileNotFoundError):
        remedy = "expected a file that exists (check the name, and the folder that you are in)"
    elif isinstance(error, IsADirectoryError):
        remedy = "expected a file (name one in this folder)"
    return f"{os.fsdecode(error.filename)!r}: {error.strerror}; {remedy}"


def import_kinds() -> None:
    """Import the kinds of other packages: their entry points in the group "structmat.kinds"."""
    for point in entry_points(group="structmat.kinds"):
        try:
            point.load()
        except Exception as error:
            raise StructmatError(
                f"the entry point {point.name!r} of {point.group!r} ({point.value}) raises "
                f"{type(error).__name__}: {error}; mend or uninstall its package"
            ) from error


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        complain(f"{message} (see {self.prog} --help)")
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="structmat",
        description=structmat.__doc__.split("\n")[0],
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"structmat {structmat.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print figures for machines")
    keyed = argparse.ArgumentParser(add_help=False)
    keyed.add_argument("--key", help="name of the array in an .npz file")
    source = argparse.ArgumentParser(add_help=False, parents=[keyed])
    source.add_argument("--seed", type=whole, default=0, help="seed of random choices (default: 0)")

    add_learn(commands, [common])
    add_compare(commands, [common, source])
    add_compress(commands, [common, source])
    add_solve(commands, [common, keyed])
    add_info(commands, [common])
    add_plot(commands, [common])
    add_report(commands, [common])
    add_calibrate(commands, [common])
    return parser
