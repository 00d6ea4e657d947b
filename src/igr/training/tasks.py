"""The kinds of models that can be trained: their configs, and what the loop does with them."""

from igr.data import Dataset
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.dlgmm_task import DLGMMTask
from igr.training.run_config import RunConfig
from igr.training.sop_config import SOPConfig
from igr.training.sop_task import SOPTask
from igr.training.task import Task
from igr.training.vae_task import VAETask


def task_of(config: RunConfig, dataset: Dataset, steps_per_epoch: int) -> Task:
    """The task that a resolved config describes, with a fresh model.

    Raises:
        UserError: The model cannot be built.
    """
    if isinstance(config, TrainConfig):
        return VAETask(config, dataset, steps_per_epoch)
    if isinstance(config, SOPConfig):
        return SOPTask(config, dataset, steps_per_epoch)
    if isinstance(config, DLGMMConfig):
        return DLGMMTask(config, dataset, steps_per_epoch)
    raise TypeError(f"expected the config of a known kind of model; got {type(config).__name__}")
