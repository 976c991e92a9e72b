"""``python -m structmat`` is the command ``structmat``."""

import sys

from structmat.cli import main

sys.exit(main())
