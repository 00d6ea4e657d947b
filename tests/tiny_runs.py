"""A run that takes a moment, for tests of what is done with many."""

from igr.training.config import TrainConfig

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
