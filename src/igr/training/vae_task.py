"""How a VAE is trained."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Generator, Tensor

from igr.data import Dataset, PreparedImages
from igr.models.joint_vae import JointVAE
from igr.models.pictures import (
    NUM_RECONSTRUCTIONS,
    PRIOR_COLUMNS,
    PRIOR_ROWS,
    hard_reconstructions,
    prior_samples,
    sheet,
)
from igr.models.vae import VAE, VAETerms
from igr.training.build import build_vae
from igr.training.config import TrainConfig
from igr.training.processes import Processes
from igr.training.randomness import keyed_generator
from igr.training.task import StepTerms, Task


class VAETask(Task):
    """A VAE or a JointVAE: the log-likelihood and the KL of each sample of each image."""

    names: ClassVar[Mapping[str, str]] = {"log_likelihood": "log-likelihood", "kl": "KL"}
    config: TrainConfig
    model: VAE

    def __init__(self, config: TrainConfig, dataset: Dataset, steps_per_epoch: int) -> None:
        super().__init__(config, build_vae(config, dataset.image_shape), steps_per_epoch)
        self._capacities = config.capacities

    @property
    def train_figures(self) -> tuple[str, ...]:
        return ("log_likelihood", "kl", *self.model.latent.part_names)

    @property
    def validation_figures(self) -> tuple[str, ...]:
        return self.train_figures

    @property
    def terms_per_image(self) -> int:
        return self.config.samples_per_image

    @property
    def heading(self) -> dict[str, Any]:
        return {"kl": self.config.kl}

    def draw_noise(self, num_images: int, generator: Generator) -> Tensor:
        num_draws = self.config.samples_per_image * self.model.draws_per_sample
        return self.model.latent.draw_noise((num_draws, num_images), generator)

    def scheduled(self, step: int) -> dict[str, float]:
        found = {name: capacity.at(step) for name, capacity in self._capacities.items()}
        if warmup := cast(int, self.config.kl_warmup) * self.steps_per_epoch:
            found["kl_weight"] = min(1.0, step / warmup)
        return found

    @property
    def changing(self) -> Sequence[Tensor]:
        estimator = self.model.estimator
        return () if estimator is None else [*estimator.buffers()]

    def join(self, processes: Processes) -> bool:
        if isinstance(self.model, JointVAE):
            # A KL is compared with its capacity over all images of a batch.
            self.model.batch_mean = processes.mean
        return super().join(processes) or isinstance(self.model, JointVAE)

    def terms(self, x: Tensor, noise: Tensor, **scheduled: Tensor) -> StepTerms:
        terms = self.model(x, noise, **self.settings(scheduled))
        return StepTerms(terms.loss, _sums(terms))

    def validation_sums(self, x: Tensor, block: int) -> Tensor:
        generator = keyed_generator(self.config.seed, "validation", block, x.device)
        noise = self.model.latent.draw_noise((self.config.samples_per_image, len(x)), generator)
        return _sums(self.model(x, noise, self.config.posterior_temperature))

    def means(self, prefix: str, names: Sequence[str], means: Sequence[float | None]) -> dict[str, Any]:
        log_likelihood, kl = means[:2]
        bound = None if log_likelihood is None or kl is None else log_likelihood - kl
        return {f"{prefix}_bound": bound, **super().means(prefix, names, means)}

    def learned(self) -> dict[str, float]:
        estimator = self.model.estimator
        found = {} if estimator is None else estimator.learned()
        return {f"estimator_{name}": value for name, value in found.items()}

    def pictures(self, images: PreparedImages) -> dict[str, Tensor]:
        originals = images[:NUM_RECONSTRUCTIONS]
        decoded = hard_reconstructions(self.model, originals, self.config.posterior_temperature)
        device = next(self.model.parameters()).device
        generator = keyed_generator(0, "board/prior samples", 0, device=device)
        drawn = prior_samples(self.model, PRIOR_ROWS * PRIOR_COLUMNS, generator)
        return {
            "reconstructions": sheet([originals.cpu(), decoded]),
            "prior samples": sheet(torch.split(drawn, PRIOR_COLUMNS)),
        }


@torch.no_grad()
def _sums(terms: VAETerms) -> Tensor:
    """Log-likelihood, KL and what else the latent reports, summed over samples and images."""
    values = (terms.log_likelihood, terms.kl, *terms.parts.values())
    return torch.stack([value.sum() for value in values]).double()
