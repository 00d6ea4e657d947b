"""Images from the discrete models, to be looked at."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from igr.models.dlgmm import DLGMM
from igr.models.sop import SOP
from igr.models.vae import VAE

# How many are usually looked at.
NUM_RECONSTRUCTIONS = 16
PRIOR_ROWS, PRIOR_COLUMNS = 4, 16
# Completions of an image that are shown, and draws that their mean is of.
NUM_COMPLETIONS = 4
NUM_IN_MEAN = 100
# Draws that the shares of the components of a mixture are of.
NUM_IN_SHARES = 10
# The colour between images: neither black, white nor grey, so that it belongs to none.
GAP = (0.50, 0.65, 0.79)
# Smaller images are enlarged to about so many pixels.
_LEAST_PIXELS = 56


@torch.no_grad()
def hard_reconstructions(model: VAE, images: Tensor, temperature: float) -> Tensor:
    """The mean image for one point of the latent of each image: its most probable categories, its mean.

    Arguments:
        model: The VAE, in evaluation mode.
        images: In the form that the likelihood needs, with shape :math:`(N, C, H, W)`.
        temperature: The temperature of the posterior.

    Returns:
        Means of the likelihood, with shape :math:`(N, C, H, W)`, on the CPU.
    """
    parameter = next(model.parameters())
    posterior = model.encode(images.to(parameter.device), temperature)
    return model.decode(model.latent.representative(posterior)).mean.cpu()


@torch.no_grad()
def prior_samples(model: VAE, num_images: int, generator: Generator | None = None) -> Tensor:
    """The mean images for points drawn from the prior, categorical ones at vertices.

    Arguments:
        model: The VAE, in evaluation mode.
        num_images: The number N of images.
        generator: Where the points are drawn from, on the device of the model.

    Returns:
        Means of the likelihood, with shape :math:`(N, C, H, W)`, on the CPU.
    """
    return model.decode(model.latent.draw_prior(num_images, generator)).mean.cpu()


@torch.no_grad()
def traversals(model: VAE, image: Tensor, temperature: float, num_steps: int) -> list[Tensor]:
    r"""Rows of images along each latent variable, the others held at those of one image.

    A coordinate of a Gaussian latent goes through the quantiles of its prior from 5 to 95 %; a categorical
    variable through its first categories.

    Arguments:
        model: The VAE, in evaluation mode.
        image: In the form that the likelihood needs, with shape :math:`(1, C, H, W)`.
        temperature: The temperature of the posterior.
        num_steps: Images in a row.

    Returns:
        For each coordinate of the Gaussian part, and then for each categorical variable, means of the
        likelihood with shape :math:`(N, C, H, W)`, N being ``num_steps`` or, if that is less, the number of
        categories; on the CPU.
    """
    parameter = next(model.parameters())
    latent = model.latent
    posterior = model.encode(image.to(parameter.device), temperature)
    of_discrete, of_continuous = latent.parts_of(posterior)
    d = None if latent.discrete is None else latent.discrete.most_probable(of_discrete)[0]  # [V, K]
    c = None if latent.continuous is None else of_continuous.mean[0]  # [D]

    def decoded(discrete: Tensor | None, continuous: Tensor | None, count: int) -> Tensor:
        parts = (
            None if t is None else t.expand(count, *t.shape[-n:]) for t, n in ((discrete, 2), (continuous, 1))
        )
        return model.decode(latent.join(*parts)).mean.cpu()

    rows = []
    if c is not None:
        levels = torch.special.ndtri(torch.linspace(0.05, 0.95, num_steps, dtype=c.dtype, device=c.device))
        for coordinate in range(len(c)):
            moved = c.repeat(num_steps, 1)
            moved[:, coordinate] = levels
            rows.append(decoded(d, moved, num_steps))
    if d is not None:
        count = min(num_steps, d.shape[-1])
        for variable in range(len(d)):
            turned = d.repeat(count, 1, 1)
            turned[:, variable] = torch.eye(d.shape[-1], dtype=d.dtype, device=d.device)[:count]
            rows.append(decoded(turned, c, count))
    return rows


class Completions(NamedTuple):
    """Images whose lower halves are predicted, with shape :math:`(N, C, H, W)`, on the CPU.

    Arguments:
        mean: With the mean over many draws.
        samples: With the mean image of one draw of the units each.
    """

    mean: Tensor
    samples: list[Tensor]


@torch.no_grad()
def completions(
    model: SOP, images: Tensor, temperature: float, generator: Generator | None = None
) -> Completions:
    """Images with their lower halves as hard units predict them from the upper ones.

    Arguments:
        model: The model.
        images: In the form that the likelihood needs, with shape :math:`(N, C, H, W)`.
        temperature: The temperature of the units.
        generator: The source of the units, on the device of the model.
    """
    parameter = next(model.parameters())
    known, _ = model.split(images.to(parameter.device))
    noise = model.draw_noise((NUM_IN_MEAN, len(known)), generator)
    halves = model.pixels(model.units(known, noise, temperature, "hard")).mean

    def whole(half: Tensor) -> Tensor:
        return torch.cat([known, half], dim=-2).cpu()

    return Completions(whole(halves.mean(0)), [whole(half) for half in halves[:NUM_COMPLETIONS]])


@torch.no_grad()
def mixture_reconstructions(model: DLGMM, images: Tensor, temperature: float) -> Tensor:
    """The mean image for the mean of the component that has the largest share of an image.

    Arguments:
        model: The model, in evaluation mode.
        images: In the form that the likelihood needs, with shape :math:`(N, C, H, W)`.
        temperature: Of logit-normal weights.

    Returns:
        Means of the likelihood, with shape :math:`(N, C, H, W)`, on the CPU.
    """
    device = next(model.parameters()).device
    posterior = model.encode(images.to(device), temperature)
    generator = Generator(device).manual_seed(0)
    noise = model.draw_noise((NUM_IN_SHARES, len(images)), generator)
    # One after the other, since each makes an image of every component.
    shares = [model.shares(images.to(device), posterior, draw.unsqueeze(0)) for draw in noise]
    largest = torch.cat(shares).mean(0).argmax(-1)
    return model.decode(posterior.loc[torch.arange(len(images)), largest]).mean.cpu()


@torch.no_grad()
def component_samples(
    model: DLGMM, components: Iterable[int], num_images: int, generator: Generator
) -> list[Tensor]:
    """The mean images for points drawn from components of the prior.

    Arguments:
        model: The model, in evaluation mode.
        components: Which.
        num_images: The number N of images of each.
        generator: Where the points are drawn from, on the device of the model.

    Returns:
        For each component means of the likelihood, with shape :math:`(N, C, H, W)`, on the CPU.
    """
    like = model.prior_loc
    rows = []
    for component in components:
        noise = torch.randn(
            (num_images, model.dim), generator=generator, device=like.device, dtype=like.dtype
        )
        rows.append(model.decode(like[component] + noise).mean.cpu())
    return rows


def sheet(rows: Sequence[Tensor]) -> Tensor:
    """Rows of images, each [N, C, H, W] in [0, 1], as one image with shape [3, H', W'], gaps between."""
    factor = max(1, -(-_LEAST_PIXELS // rows[0].shape[-1]))
    gap = torch.tensor(GAP).view(3, 1, 1)
    lines = []
    for row in rows:
        large = row.float().expand(-1, 3, -1, -1)
        large = large.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
        height = large.shape[-2]
        tiles = [part for image in large for part in (image, gap.expand(3, height, 2))]
        lines.append(torch.cat(tiles[:-1], dim=-1))
    width = max(line.shape[-1] for line in lines)
    padded = []
    for line in lines:
        rest = gap.expand(3, line.shape[-2], width - line.shape[-1])
        padded += [torch.cat([line, rest], dim=-1), gap.expand(3, 2, width)]
    return torch.cat(padded[:-1], dim=-2)
