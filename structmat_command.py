"""The command ``structmat``, before the package is imported, so that an interrupt ends quietly."""

import sys


def main() -> int:
    """Run the command line; an interrupt during the imports ends it as one during the work does."""
    try:
        from structmat.cli import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("structmat: interrupted\n")
        return 130
