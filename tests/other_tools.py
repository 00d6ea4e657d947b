"""The other tools, in the versions of which docs/coming-from-gumbel-softmax.md tells the troubles."""

from importlib.metadata import version

TORCH, PYRO = "2.13.0", "1.9.2"

# Elsewhere a trouble may have been mended, or not be there yet; then a test asks nothing of the other tool.
IS_TORCH = version("torch").split("+")[0] == TORCH
