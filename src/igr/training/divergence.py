"""What training says where numbers are not finite: in which step, what is intact, and the likely cause."""

import math
from collections.abc import Mapping

from igr.training.failures import TrainingFailure
from igr.training.run_folder import RunFolder
from igr.training.task import Task

# Trained weights of these networks stay far below.
PLAUSIBLE_WEIGHT = 1e3


def broken_step(task: Task, folder: RunFolder, step: int, figures: Mapping[str, float]) -> TrainingFailure:
    """The failure of a step with figures that are not finite.

    Arguments:
        task: What is trained, with the weights as they are by now.
        folder: The folder of the run.
        step: The number of the step, from one.
        figures: Its figures by name.
    """
    parameters = list(task.model.parameters())
    if not all(parameter.isfinite().all() for parameter in parameters):
        return _failure(task, folder, step, "the weights are not finite", "the learning rate")
    # Other figures are parts of those that have a name for it.
    terms = [
        f"the {name} is {figures[key]}" for key, name in task.names.items() if not math.isfinite(figures[key])
    ]
    largest = max(parameter.abs().max().item() for parameter in parameters)
    cause = "the learning rate" if largest > PLAUSIBLE_WEIGHT else "the temperature"
    return _failure(task, folder, step, " and ".join(terms), cause)


def broken_state(task: Task, folder: RunFolder, step: int, name: str) -> TrainingFailure:
    """The failure of a step after which a tensor of the state is not finite.

    Arguments:
        task: What is trained.
        folder: The folder of the run.
        step: The number of the step, from one.
        name: That of the tensor in a checkpoint.
    """
    return _failure(task, folder, step, f"{name} is not finite", "the learning rate")


def _failure(task: Task, folder: RunFolder, step: int, what: str, cause: str) -> TrainingFailure:
    config = task.config
    latest = folder.latest_checkpoint()
    intact = "none was written yet" if latest is None else str(latest)
    advice = {
        "the learning rate": f"a learning rate too high ({config.learning_rate:g})",
        "the temperature": f"a temperature too low ({config.posterior_temperature:g}) for {config.precision}",
    }
    return TrainingFailure(
        f"expected finite numbers; got a step ({step}, epoch {(step - 1) // task.steps_per_epoch + 1}) where "
        f"{what}; last good checkpoint: {intact}; the likely cause is {advice[cause]}"
    )
