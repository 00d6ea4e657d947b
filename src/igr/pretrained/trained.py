"""A trained model with what is needed to use it."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.distributions import Distribution

from igr.data import prepare
from igr.errors import UserError
from igr.models.dlgmm import DLGMM, MixturePosterior
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import NETWORKS, resized
from igr.models.pictures import (
    Completions,
    completions,
    hard_reconstructions,
    mixture_reconstructions,
    prior_samples,
)
from igr.models.sop import SOP
from igr.models.vae import VAE
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.run_config import RunConfig
from igr.training.sop_config import SOPConfig

Config = TypeVar("Config", bound=RunConfig)
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, eq=False, repr=False)
class Trained(Generic[Config, Model]):
    """A trained model, in evaluation mode, and the settings that it was trained with.

    What :func:`from_pretrained` returns is a :class:`TrainedVAE`, a :class:`TrainedSOP` or a
    :class:`TrainedDLGMM`. Parameters ask for gradients as those of any module do.

    Arguments:
        config: The resolved settings.
        model: The model itself.
        step: Steps of training done.
        epoch: Epochs of training finished.
    """

    config: Config
    model: Model
    step: int
    epoch: int

    @property
    def temperature(self) -> float:
        """The temperature that the model was trained with."""
        return self.config.posterior_temperature

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def prepare(self, images: Tensor) -> Tensor:
        """Images in the form that the model takes, on its device.

        Arguments:
            images: Intensities with shape :math:`(N, C, H, W)`, uint8 from 0 to 255 or floats from 0 to 1.
                Where the network had images resized in training, uint8 images may be of any size.

        Returns:
            Floats with the shape that the network takes. Of binary images a pixel is 1 from half of the
            full intensity on, and 0 below.

        Raises:
            UserError: They have another shape, type or range.
        """
        wanted = self.config.image_shape
        if images.dim() == 4 and images.dtype == torch.uint8 and self._resizes:
            images = resized(images, wanted[-1])
        if images.dim() != 4 or tuple(images.shape[1:]) != wanted:
            raise UserError(
                f"expected images of shape (N, {', '.join(map(str, wanted))}); got {tuple(images.shape)}; "
                f"give images like those of {self.config.data}, several in one tensor"
            )
        if images.dtype == torch.uint8:
            return prepare(images.to(self.device), self.config.likelihood, self.config.dtype)
        if not images.is_floating_point():
            raise UserError(
                f"expected images of uint8 or of floats; got {images.dtype}; convert intensities up to 255 "
                "with images.to(torch.uint8)"
            )
        # NaN is in no range.
        if not bool(((images >= 0) & (images <= 1)).all()):
            raise UserError(
                f"expected floats from 0 to 1; got some from {images.min().item():g} to "
                f"{images.max().item():g}; divide by the full intensity, or give uint8"
            )
        if LIKELIHOODS[self.config.likelihood].binary_images:
            images = images >= 0.5
        return images.to(self.device, self.config.dtype)

    def __repr__(self) -> str:
        config = self.config
        return f"{type(self).__name__}({config.run_name}, epoch={self.epoch}, device={self.device})"

    @property
    def _resizes(self) -> bool:
        network = NETWORKS.get(self.config.network)
        return network is not None and network.side is not None


class TrainedVAE(Trained[TrainConfig, VAE]):
    """A trained VAE or JointVAE."""

    def encode(self, images: Tensor) -> Any:
        """The posterior of images, as the latent makes it.

        Of a categorical latent it is a relaxation (for instance an :class:`igr.InvertibleGaussian`) with
        batch shape :math:`(N, V)` and event shape :math:`(K,)`, whose ``discrete()`` is the law of the
        categories.

        Arguments:
            images: As :meth:`prepare` takes them.
        """
        return self.model.encode(self.prepare(images), self.temperature)

    def draw(self, posterior: Any, num_samples: int = 1, generator: Generator | None = None) -> Any:
        """Points of a posterior, as :meth:`decode` takes them.

        Arguments:
            posterior: As :meth:`encode` gives it.
            num_samples: The number S of points for each image.
            generator: The source of randomness, on the device of the model.

        Returns:
            Points; of a categorical latent points of the simplex, with shape :math:`(S, N, V, K)`.
        """
        latent = self.model.latent
        of_discrete, of_continuous = latent.parts_of(posterior)
        batch = of_continuous.loc.shape[:-1] if of_discrete is None else of_discrete.batch_shape[:-1]
        return latent.points(posterior, latent.draw_noise((num_samples, *batch), generator))

    def decode(self, points: Any) -> Distribution:
        """The law of images given points of the latent.

        Arguments:
            points: As :meth:`draw` gives them; of a categorical latent points of the simplex, with shape
                :math:`(*, V, K)`, or categories, int64 with shape :math:`(*, V)`.
        """
        return self.model.decode(points)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Mean images for the most probable categories (and the mean of a Gaussian part) of images.

        Arguments:
            images: As :meth:`prepare` takes them.

        Returns:
            Intensities from 0 to 1, with shape :math:`(N, C, H, W)`, on the CPU.
        """
        return hard_reconstructions(self.model, self.prepare(images), self.temperature)

    def sample(self, num_images: int, generator: Generator | None = None) -> Tensor:
        """Mean images for points of the prior, categorical ones at vertices.

        Arguments:
            num_images: The number N of images.
            generator: The source of randomness, on the device of the model.

        Returns:
            Intensities from 0 to 1, with shape :math:`(N, C, H, W)`, on the CPU.
        """
        return prior_samples(self.model, num_images, generator)


class TrainedDLGMM(Trained[DLGMMConfig, DLGMM]):
    """A trained mixture model."""

    def encode(self, images: Tensor) -> MixturePosterior:
        """The posterior of images: the law of the weights, and all components.

        Arguments:
            images: As :meth:`prepare` takes them, with shape :math:`(N, C, H, W)`.
        """
        return self.model.encode(self.prepare(images), self.temperature)

    def draw(
        self, posterior: MixturePosterior, num_samples: int = 1, generator: Generator | None = None
    ) -> Tensor:
        """Points of a posterior, each of a component drawn by the weights.

        Arguments:
            posterior: As :meth:`encode` gives it.
            num_samples: The number S of points for each image.
            generator: The source of randomness, on the device of the model.

        Returns:
            Points with shape :math:`(S, N, D)`.
        """
        return self.model.draw_points(posterior, num_samples, generator)

    def decode(self, points: Tensor) -> Distribution:
        """The law of images given points of the latent, with shape :math:`(*, D)`."""
        return self.model.decode(points)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Mean images for the mean of the component that has the largest share of each image.

        Arguments:
            images: As :meth:`prepare` takes them.

        Returns:
            Intensities from 0 to 1, with shape :math:`(N, C, H, W)`, on the CPU.
        """
        return mixture_reconstructions(self.model, self.prepare(images), self.temperature)

    @torch.no_grad()
    def sample(self, num_images: int, generator: Generator | None = None) -> Tensor:
        """Mean images for points of the prior.

        Arguments:
            num_images: The number N of images.
            generator: The source of randomness, on the device of the model.

        Returns:
            Intensities from 0 to 1, with shape :math:`(N, C, H, W)`, on the CPU.
        """
        points = self.model.draw_prior(num_images, self.temperature, generator)
        return self.model.decode(points).mean.cpu()


class TrainedSOP(Trained[SOPConfig, SOP]):
    """A trained model of structured output prediction: the lower half of an image from the upper one."""

    def complete(self, images: Tensor, generator: Generator | None = None) -> Completions:
        """Images with their lower halves as the model predicts them, by hard units.

        Arguments:
            images: Whole images, as :meth:`prepare` takes them, with shape :math:`(N, C, H, W)`; their lower
                halves are not looked at.
            generator: The source of randomness, on the device of the model.
        """
        return completions(self.model, self.prepare(images), self.temperature, generator)
