"""Images from the discrete model of a VAE, to be looked at."""

import torch
from torch import Generator, Tensor

from igr.models.vae import VAE


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
