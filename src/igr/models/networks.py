"""Encoders and decoders, by name."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Generator, nn


class Networks(NamedTuple):
    """An encoder and a decoder that belong together.

    The encoder takes images with shape :math:`(*, C, H, W)` to outputs with shape
    :math:`(*, O)`, the decoder features with shape :math:`(*, F)` to the parameters of the pixels
    with shape :math:`(*, P, C, H, W)`.
    """

    encoder: nn.Module
    decoder: nn.Module


class Sizes(NamedTuple):
    """What a pair of networks has to fit.

    Arguments:
        image_shape: Channels, height and width of an image.
        num_outputs: Numbers that the encoder gives for an image.
        num_features: Numbers that the decoder takes.
        parameters_per_pixel: Numbers that the decoder gives for each pixel.
    """

    image_shape: tuple[int, int, int]
    num_outputs: int
    num_features: int
    parameters_per_pixel: int


def _layers(widths: list[int], generator: Generator) -> list[nn.Module]:
    """Linear layers between the widths, with a ReLU between two of them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        # On no device at first, or torch would draw weights from its global generator.
        linear = nn.Linear(fan_in, fan_out, device="meta").to_empty(device="cpu")
        nn.init.xavier_uniform_(linear.weight, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return layers[:-1]


def _dense(hidden: tuple[int, ...], sizes: Sizes, generator: Generator) -> Networks:
    pixels = math.prod(sizes.image_shape)
    outward = (sizes.parameters_per_pixel, *sizes.image_shape)
    encoder_widths = [pixels, *hidden, sizes.num_outputs]
    decoder_widths = [sizes.num_features, *reversed(hidden), math.prod(outward)]
    return Networks(
        nn.Sequential(nn.Flatten(-3), *_layers(encoder_widths, generator)),
        nn.Sequential(*_layers(decoder_widths, generator), nn.Unflatten(-1, outward)),
    )


NETWORKS: dict[str, Callable[[Sizes, Generator], Networks]] = {
    "dense": partial(_dense, ()),
    "dense_nonlinear": partial(_dense, (512, 256)),
}
