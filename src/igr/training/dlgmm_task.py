"""How mixture models are trained."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from igr.data import Dataset, PreparedImages
from igr.models.dlgmm import DLGMM, DLGMMTerms
from igr.models.pictures import NUM_RECONSTRUCTIONS, component_samples, mixture_reconstructions, sheet
from igr.training.build import build_dlgmm
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.randomness import keyed_generator
from igr.training.task import StepTerms, Task

# Components that TensorBoard shows, and images of each.
SHOWN_COMPONENTS, SHOWN_IMAGES = 8, 12
# Numbers of the largest tensor of a pass in validation, 32 MiB in float32.
ELEMENT_BUDGET = 2**23
FIGURES = (
    "log_likelihood",
    "kl_components",
    "kl_sticks",
    "active_per_draw",
    "num_components",
    "sticks_needed",
    "mass_cut",
)


class DLGMMTask(Task):
    """The bound with the component as a variable, in validation that of all components."""

    names: ClassVar[Mapping[str, str]] = {
        "log_likelihood": "log-likelihood",
        "kl_components": "KL of the components",
        "kl_sticks": "KL of the sticks",
    }
    config: DLGMMConfig
    model: DLGMM

    def __init__(self, config: DLGMMConfig, dataset: Dataset, steps_per_epoch: int) -> None:
        super().__init__(config, build_dlgmm(config, dataset.image_shape), steps_per_epoch)

    @property
    def train_figures(self) -> tuple[str, ...]:
        return FIGURES

    @property
    def validation_figures(self) -> tuple[str, ...]:
        return FIGURES

    @property
    def terms_per_image(self) -> int:
        return self.config.samples_per_image

    def draw_noise(self, num_images: int, generator: Generator) -> Tensor:
        return self.model.draw_noise((self.config.samples_per_image, num_images), generator)

    def terms(self, x: Tensor, noise: Tensor, **scheduled: Tensor) -> StepTerms:
        terms = self.model(x, noise, **self.settings(scheduled))
        return StepTerms(terms.loss, _sums(terms))

    def validation_sums(self, x: Tensor, block: int) -> Tensor:
        generator = keyed_generator(self.config.seed, "validation", block, x.device)
        noise = self.model.draw_noise((self.config.samples_per_image, len(x)), generator)
        # Every component of every image is decoded, and a whole block may be more than there is room for.
        size = max(1, ELEMENT_BUDGET // (self.config.samples_per_image * self.model.largest_per_sample))
        return sum(
            (
                _sums(self.model(images, part, self.config.posterior_temperature))
                for images, part in zip(torch.split(x, size), torch.split(noise, size, dim=1), strict=True)
            ),
            start=torch.zeros(len(FIGURES), dtype=torch.float64, device=x.device),
        )

    def means(self, prefix: str, names: Sequence[str], means: Sequence[float | None]) -> dict[str, Any]:
        log_likelihood, components, sticks = means[:3]
        kl = None if components is None or sticks is None else components + sticks
        bound = None if log_likelihood is None or kl is None else log_likelihood - kl
        own = super().means(prefix, names, means)
        return {f"{prefix}_bound": bound, **own, f"{prefix}_kl": kl}

    def pictures(self, images: PreparedImages) -> dict[str, Tensor]:
        originals = images[:NUM_RECONSTRUCTIONS]
        temperature = self.config.posterior_temperature
        device = next(self.model.parameters()).device
        generator = keyed_generator(0, "board/prior samples", 0, device=device)
        decoded = mixture_reconstructions(self.model, originals, temperature)
        shown = range(min(SHOWN_COMPONENTS, self.model.num_components))
        rows = component_samples(self.model, shown, SHOWN_IMAGES, generator)
        return {"reconstructions": sheet([originals.cpu(), decoded]), "samples of components": sheet(rows)}


@torch.no_grad()
def _sums(terms: DLGMMTerms) -> Tensor:
    """The figures, summed over samples and images."""
    return torch.stack([getattr(terms, name).sum() for name in FIGURES]).double()
