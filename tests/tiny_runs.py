"""Runs that take a moment, and one that has only begun."""

from pathlib import Path

from igr.training.config import TrainConfig
from igr.training.run_folder import RunFolder

# For tests of what is done with many.
TINY = TrainConfig(
    network="dense",
    num_variables=2,
    num_categories=3,
    max_images=50,
    epochs=2,
    batch_size=25,
    checkpoint_every=1,
    num_eval_samples=4,
    tensorboard=False,
).resolved()

# Three batches in an epoch, the last one smaller, for tests of the loop.
SMALL = TrainConfig(
    network="dense",
    num_variables=4,
    num_categories=5,
    max_images=110,
    batch_size=40,
    epochs=4,
    checkpoint_every=2,
)

BEGUN = TrainConfig(network="dense", num_variables=3, num_categories=4, max_images=20).resolved()


def begun(path: Path) -> RunFolder:
    """The folder of a run that has begun, and has taken no step."""
    folder = RunFolder(path)
    with folder.locked():
        folder.begin(BEGUN)
    return folder
