"""``python -m igr``, the same as the command ``igr``."""

import sys

from igr.cli import main

if __name__ == "__main__":
    sys.exit(main())
