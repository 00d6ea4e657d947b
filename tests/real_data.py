"""Where the files of MNIST, Fashion-MNIST and Omniglot are, if a machine has them (docs/data.md)."""

import os
from pathlib import Path

REAL_DATA = Path(os.environ.get("IGR_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
