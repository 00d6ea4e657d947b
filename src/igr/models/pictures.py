"""Images from the discrete model of a VAE, to be looked at."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from igr.models.vae import VAE

# How many are usually looked at.
NUM_RECONSTRUCTIONS = 16
PRIOR_ROWS, PRIOR_COLUMNS = 4, 16
# The colour between images: neither black, white nor grey, so that it belongs to none.
GAP = (0.50, 0.65, 0.79)
# Smaller images are enlarged to about so many pixels.
_LEAST_PIXELS = 56


@torch.no_grad()
def hard_reconstructions(model: VAE, images: Tensor, temperature: float) -> Tensor:
    """The mean image for the most probable one-hot latent of each image.

    Arguments:
        model: The VAE, in evaluation mode.
        images: In the form that the likelihood needs, with shape :math:`(N, C, H, W)`.
        temperature: The temperature of the posterior.

    Returns:
        Means of the likelihood, with shape :math:`(N, C, H, W)`, on the CPU.
    """
    parameter = next(model.parameters())
    law = model.encode(images.to(parameter.device), temperature).discrete()
    return _mean_image(model, law.logits.argmax(-1))


@torch.no_grad()
def prior_samples(model: VAE, num_images: int, generator: Generator) -> Tensor:
    """The mean images for one-hot latents drawn from the prior.

    Arguments:
        model: The VAE, in evaluation mode.
        num_images: The number N of images.
        generator: Where the latents are drawn from, on the device of the model.

    Returns:
        Means of the likelihood, with shape :math:`(N, C, H, W)`, on the CPU.
    """
    probs = model.latent.discrete_prior().probs  # [V, K]
    index = torch.multinomial(probs, num_images, replacement=True, generator=generator).T
    return _mean_image(model, index)


def _mean_image(model: VAE, index: Tensor) -> Tensor:
    parameter = next(model.parameters())
    d = torch.nn.functional.one_hot(index, model.latent.num_categories)
    return model.decode(d.to(parameter)).mean.cpu()


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
