"""How structured output prediction is trained."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Generator, Tensor

from igr.data import Dataset, PreparedImages
from igr.models.pictures import completions, sheet
from igr.models.sop import SOP, log_mean_exp
from igr.training.build import build_sop
from igr.training.randomness import keyed_generator
from igr.training.sop_config import SOPConfig
from igr.training.task import StepTerms, Task

# Images whose completions TensorBoard shows.
NUM_COMPLETED = 16


class SOPTask(Task):
    """The multi-sample bound of the relaxed model, and in validation that of the discrete one too."""

    names: ClassVar[Mapping[str, str]] = {"bound": "bound"}
    config: SOPConfig
    model: SOP

    def __init__(self, config: SOPConfig, dataset: Dataset, steps_per_epoch: int) -> None:
        super().__init__(config, build_sop(config, dataset.image_shape), steps_per_epoch)

    @property
    def train_figures(self) -> tuple[str, ...]:
        return ("bound",)

    @property
    def validation_figures(self) -> tuple[str, ...]:
        return ("bound", "discrete_bound")

    @property
    def terms_per_image(self) -> int:
        return 1

    def learning_rate(self, step: int) -> float:
        return self.config.learning_rate_at(step)

    def draw_noise(self, num_images: int, generator: Generator) -> Tensor:
        return self.model.draw_noise((self.config.samples_per_image, num_images), generator)

    def terms(self, x: Tensor, noise: Tensor, **scheduled: Tensor) -> StepTerms:
        terms = self.model(x, noise, **self.settings(scheduled))
        return StepTerms(terms.loss, terms.bound.detach().sum().double().unsqueeze(0))

    def validation_sums(self, x: Tensor, block: int) -> Tensor:
        generator = keyed_generator(self.config.seed, "validation", block, x.device)
        noise = self.model.draw_noise((self.config.samples_per_image, len(x)), generator)
        temperature = self.config.posterior_temperature
        relaxed = self.model(x, noise, temperature).bound
        hard = log_mean_exp(self.model.log_likelihood(x, noise, temperature, "hard"))
        return torch.stack([relaxed.sum(), hard.sum()]).double()

    def pictures(self, images: PreparedImages) -> dict[str, Tensor]:
        originals = images[:NUM_COMPLETED]
        device = next(self.model.parameters()).device
        generator = keyed_generator(0, "board/completions", 0, device=device)
        found = completions(self.model, originals, self.config.posterior_temperature, generator)
        return {"completions": sheet([originals.cpu(), found.mean, *found.samples])}
