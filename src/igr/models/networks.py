"""Encoders and decoders, by name."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from igr.errors import UserError


class Networks(NamedTuple):
    """An encoder and a decoder that belong together.

    Arguments:
        encoder: From images with shape :math:`(*, C, H, W)` to outputs with shape :math:`(*, O)`.
        decoder: From features with shape :math:`(*, F)` to the parameters of the pixels with shape
            :math:`(*, P, C, H, W)`.
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

    @property
    def outward(self) -> tuple[int, int, int, int]:
        """The shape of what a decoder gives for an image."""
        return (self.parameters_per_pixel, *self.image_shape)


Layer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


@dataclass(frozen=True)
class Architecture:
    """A pair of networks that can be built for many sizes.

    Arguments:
        build: Makes it, with initial weights from a generator.
        check: UserError for a shape of images that it does not take.
        side: The height and width that images are resized to first, given their shape; ``None`` for networks
            that take images as they are.
    """

    build: Callable[[Sizes, Generator], Networks]
    check: Callable[[tuple[int, int, int]], None] = lambda shape: None
    side: Callable[[tuple[int, int, int]], int] | None = None

    def image_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape of images as the networks take them.

        Raises:
            UserError: They cannot take images of that shape.
        """
        if self.side is not None:
            side = self.side(shape)
            shape = (shape[0], side, side)
        self.check(shape)
        return shape


def initialized(layer: Layer, generator: Generator, he: bool = False) -> Layer:
    """A layer that was made on no device, with Glorot uniform (or He normal) weights and zero biases.

    Made there, since torch would draw its weights from the global generator.
    """
    made = layer.to_empty(device="cpu")
    if he:
        nn.init.kaiming_normal_(made.weight, nonlinearity="relu", generator=generator)
    else:
        nn.init.xavier_uniform_(made.weight, generator=generator)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return made


def _layers(widths: list[int], generator: Generator) -> list[nn.Module]:
    """Linear layers between the widths, with a ReLU between two of them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [initialized(nn.Linear(fan_in, fan_out, device="meta"), generator), nn.ReLU(inplace=True)]
    return layers[:-1]


def _convolutions(
    channels: list[int], kernel: int, padding: int, generator: Generator, he: bool = False
) -> list[nn.Module]:
    """Convolutions of stride two, each with a ReLU after it."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        layer = nn.Conv2d(before, after, kernel, stride=2, padding=padding, device="meta")
        layers += [initialized(layer, generator, he), nn.ReLU(inplace=True)]
    return layers


def _doubling(before: int, after: int, kernel: int, generator: Generator) -> Layer:
    """A transposed convolution that doubles height and width."""
    extra = kernel % 2
    layer = nn.ConvTranspose2d(
        before, after, kernel, stride=2, padding=1, output_padding=extra, device="meta"
    )
    return initialized(layer, generator)


class _Centred(nn.Module):
    """Numbers from 0 to 1 as ones from -1 to 1."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


class Autocast(nn.Module):
    """A network that computes in bfloat16 while it is trained; weights, what it takes and gives are not.

    Arguments:
        network: Takes and gives float32.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """What the network makes of a tensor of the shape that it takes, in the dtype of that tensor."""
        if not self.training:
            found: Tensor = self.network(x)
            return found
        # Weights that were kept in bfloat16 would be those of an earlier pass where one is replayed.
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            found = self.network(x)
        return found.to(x.dtype)


class _OverImages(nn.Module):
    """Layers that take one batch dimension, over any number of them.

    Arguments:
        layers: Applied in turn.
        event_dim: Dimensions of what they take, without the batch.
    """

    def __init__(self, layers: list[nn.Module], event_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self._event_dim = event_dim

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[: x.dim() - self._event_dim]
        found: Tensor = self.layers(x.reshape(-1, *x.shape[len(batch) :]))
        return found.reshape(*batch, *found.shape[1:])


def decoded_categories(decoder: nn.Module, categories: Tensor, num_categories: int) -> Tensor:
    """What a decoder gives for the one-hot vectors of some variables.

    The product of their vectors with the weights of a first linear layer is a sum of columns, which is looked
    up.

    Arguments:
        decoder: That of :class:`Networks`.
        categories: The categories of V variables, int64 with shape :math:`(*, V)`.
        num_categories: The number K of categories of each.
    """
    if isinstance(decoder, Autocast) and not decoder.training:
        decoder = decoder.network
    layers = decoder.layers if isinstance(decoder, _OverImages) else decoder
    if not isinstance(layers, nn.Sequential) or not isinstance(layers[0], nn.Linear):
        weight = next(decoder.parameters())
        found: Tensor = decoder(nn.functional.one_hot(categories, num_categories).to(weight).flatten(-2))
        return found
    first, rest = layers[0], layers[1:]
    columns = categories + num_categories * torch.arange(categories.shape[-1], device=categories.device)
    hidden = nn.functional.embedding_bag(
        columns.int().reshape(-1, columns.shape[-1]), first.weight.T.contiguous(), mode="sum"
    ).add_(first.bias)
    found = rest(hidden)
    return found.reshape(*categories.shape[:-1], *found.shape[1:])


def _dense(hidden: tuple[int, ...], sizes: Sizes, generator: Generator) -> Networks:
    pixels = math.prod(sizes.image_shape)
    encoder_widths = [pixels, *hidden, sizes.num_outputs]
    decoder_widths = [sizes.num_features, *reversed(hidden), math.prod(sizes.outward)]
    return Networks(
        nn.Sequential(nn.Flatten(-3), *_layers(encoder_widths, generator)),
        nn.Sequential(*_layers(decoder_widths, generator), nn.Unflatten(-1, sizes.outward)),
    )


def _dense_relax(sizes: Sizes, generator: Generator) -> Networks:
    """Those of the RELAX experiments: inputs from -1 to 1, the encoder's layers as wide as its output."""
    width = sizes.num_outputs
    encoder = _layers([math.prod(sizes.image_shape), width, width, width], generator)
    decoder = _layers([sizes.num_features, 200, 200, math.prod(sizes.outward)], generator)
    return Networks(
        nn.Sequential(_Centred(), nn.Flatten(-3), *encoder),
        nn.Sequential(_Centred(), *decoder, nn.Unflatten(-1, sizes.outward)),
    )


def _check_quarters(shape: tuple[int, int, int]) -> None:
    if any(side % 4 or side < 8 for side in shape[1:]):
        raise UserError(
            "expected images whose height and width are multiples of 4, from 8 on, for a network with "
            f"convolutions; got {shape[1]} x {shape[2]}; use a dense one, or conv_jointvae, which resizes"
        )


def _conv(sizes: Sizes, generator: Generator) -> Networks:
    channels, height, width = sizes.image_shape
    convolutions = _convolutions([channels, 32, 64], 3, 0, generator, he=True)
    flat = 64 * math.prod((((side - 3) // 2 + 1) - 3) // 2 + 1 for side in (height, width))
    decoder = _conv_decoder(sizes.num_features, sizes.outward, generator)
    head = _layers([flat, sizes.num_outputs], generator)
    return Networks(_OverImages([*convolutions, nn.Flatten(), *head], 3), decoder)


def _conv_decoder(num_features: int, outward: tuple[int, int, int, int], generator: Generator) -> nn.Module:
    parameters, channels, height, width = outward
    last = nn.ConvTranspose2d(32, parameters * channels, 3, stride=1, padding=1, device="meta")
    quarter = (32, height // 4, width // 4)
    layers = [
        *_layers([num_features, math.prod(quarter)], generator),
        nn.ReLU(inplace=True),
        nn.Unflatten(-1, quarter),
        _doubling(32, 64, 3, generator),
        nn.ReLU(inplace=True),
        _doubling(64, 32, 3, generator),
        nn.ReLU(inplace=True),
        initialized(last, generator),
        nn.Unflatten(-3, (parameters, channels)),
    ]
    return _OverImages(layers, 1)


def _jointvae_side(shape: tuple[int, int, int]) -> int:
    return 32 if max(shape[1:]) <= 32 else 64


def _conv_jointvae(sizes: Sizes, generator: Generator) -> Networks:
    """The networks of the JointVAE; the heads of the encoder's parameters are one linear layer."""
    channels, side, _ = sizes.image_shape
    is_large = side == 64
    encoder = _convolutions([channels, 32, 64, 64, *([64] if is_large else [])], 4, 1, generator)
    decoder: list[nn.Module] = [
        *_layers([sizes.num_features, 256, 4 * 4 * 64], generator),
        nn.ReLU(inplace=True),
        nn.Unflatten(-1, (64, 4, 4)),
    ]
    widths = [64, *([64] if is_large else []), 32, 32, sizes.parameters_per_pixel * channels]
    for before, after in itertools.pairwise(widths):
        decoder += [_doubling(before, after, 4, generator), nn.ReLU(inplace=True)]
    decoder[-1] = nn.Unflatten(-3, sizes.outward[:2])
    return Networks(
        _OverImages([*encoder, nn.Flatten(), *_layers([4 * 4 * 64, 256, sizes.num_outputs], generator)], 3),
        _OverImages(decoder, 1),
    )


NETWORKS: dict[str, Architecture] = {
    "dense": Architecture(partial(_dense, ())),
    "dense_nonlinear": Architecture(partial(_dense, (512, 256))),
    "dense_relax": Architecture(_dense_relax),
    "conv": Architecture(_conv, check=_check_quarters),
    "conv_jointvae": Architecture(_conv_jointvae, side=_jointvae_side),
}


class MixtureNetworks(NamedTuple):
    """The networks of a mixture model, but for the heads of the encoder, which are its own.

    Arguments:
        trunk: From images with shape :math:`(*, C, H, W)` to hidden units.
        num_hidden: How many these are.
        decoder: From points of the latent with shape :math:`(*, D)` to the parameters of the pixels with
            shape :math:`(*, P, C, H, W)`.
        widest: How many numbers the largest tensor has that the decoder makes of a point.
    """

    trunk: nn.Module
    num_hidden: int
    decoder: nn.Module
    widest: int


@dataclass(frozen=True)
class MixtureArchitecture:
    """Networks of a mixture model that can be built for many sizes.

    Arguments:
        build: Makes them for a number of coordinates of the latent and what the decoder gives for an image,
            (P, C, H, W), with initial weights from a generator.
        check: UserError for a shape of images that they do not take.
    """

    build: Callable[[int, tuple[int, int, int, int], Generator], MixtureNetworks]
    check: Callable[[tuple[int, int, int]], None] = lambda shape: None


def _mixture_dense(dim: int, outward: tuple[int, int, int, int], generator: Generator) -> MixtureNetworks:
    trunk = [*_layers([math.prod(outward[1:]), 200, 200, 200], generator), nn.ReLU(inplace=True)]
    decoder = _layers([dim, 200, 200, math.prod(outward)], generator)
    return MixtureNetworks(
        nn.Sequential(nn.Flatten(-3), *trunk),
        200,
        nn.Sequential(*decoder, nn.Unflatten(-1, outward)),
        widest=max(200, math.prod(outward)),
    )


def _mixture_conv(dim: int, outward: tuple[int, int, int, int], generator: Generator) -> MixtureNetworks:
    parameters, channels, height, width = outward
    trunk = _convolutions([channels, 32, 64, 64], 4, 1, generator)
    num_hidden = 64 * (height // 8) * (width // 8)
    decoder = _conv_decoder(dim, outward, generator)
    widest = max(32, parameters * channels) * height * width
    return MixtureNetworks(_OverImages([*trunk, nn.Flatten()], 3), num_hidden, decoder, widest)


MIXTURE_NETWORKS: dict[str, MixtureArchitecture] = {
    "dlgmm_dense": MixtureArchitecture(_mixture_dense),
    "dlgmm_conv": MixtureArchitecture(_mixture_conv, check=_check_quarters),
}


def resized(images: Tensor, side: int) -> Tensor:
    """Images brought to a height and width, in the same form.

    Bilinear, without a look at the corners; images of that size are left as they are, and not read.

    Arguments:
        images: uint8, with shape :math:`(N, C, H, W)`.
        side: The height and width of the result, in pixels.

    Shapes:
        Result :math:`(N, C, H, W)`, H and W being ``side``.
    """
    if images.shape[-2:] == (side, side):
        return images
    blocks = [
        nn.functional.interpolate(block.float(), (side, side), mode="bilinear", antialias=True)
        .round_()
        .clamp_(0, 255)
        .to(torch.uint8)
        for block in torch.split(images, 2000)
    ]
    return torch.cat(blocks) if blocks else images.new_zeros((0, images.shape[1], side, side))
