"""Structured output prediction: the lower half of an image from the upper one through binary units."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.distributions import Distribution

from igr import reprs
from igr.distributions import BinaryConcrete, BinaryInvertibleGaussian, BinaryRelaxation
from igr.kernels.simplex import straight_through
from igr.kernels.tracing import is_traced
from igr.models.likelihoods import LIKELIHOODS, Likelihood
from igr.models.networks import initialized
from igr.transforms import PlanarFlow


@dataclass(frozen=True)
class SOPNetwork:
    """The layers of a network from half an image to the other half.

    Arguments:
        num_layers: Layers of stochastic units.
        num_hidden: Deterministic layers of tanh units before each layer of stochastic units, and before the
            pixels; as wide as those.
    """

    num_layers: int
    num_hidden: int


NETWORKS: dict[str, SOPNetwork] = {
    "double_linear": SOPNetwork(num_layers=2, num_hidden=0),
    "triple_linear": SOPNetwork(num_layers=3, num_hidden=0),
    "nonlinear": SOPNetwork(num_layers=2, num_hidden=1),
}


class BinaryLatent(nn.Module, ABC):
    """The law of a layer of binary units, given what the layer before it puts out.

    Arguments:
        num_units: The number U of units.
    """

    options: ClassVar[frozenset[str]] = frozenset()
    """What else can be said of it: settings of a config that are arguments of the constructor."""

    outputs_per_unit = 1

    def __init__(self, num_units: int) -> None:
        super().__init__()
        self.num_units = num_units

    @property
    def num_outputs(self) -> int:
        """How many numbers N the layer takes."""
        return self.num_units * self.outputs_per_unit

    @abstractmethod
    def forward(self, outputs: Tensor, temperature: Tensor | float) -> BinaryRelaxation:
        """The law of the units, with batch shape :math:`(*, U)`.

        Arguments:
            outputs: What the layer before puts out, with shape :math:`(*, N)`, N being ``num_outputs``.
            temperature: The temperature.
        """


class BinaryConcreteLatent(BinaryLatent):
    """Gumbel-Softmax over two categories; the outputs are its logits.

    Arguments:
        num_units: The number U of units.
    """

    def forward(self, outputs: Tensor, temperature: Tensor | float) -> BinaryConcrete:
        return BinaryConcrete(temperature, outputs, validate_args=False)


class BinaryGaussianLatent(BinaryLatent):
    """IGR-I over two categories; the outputs are locs, and where they are free logarithms of scales.

    Arguments:
        num_units: The number U of units.
        scale: ``"fixed"`` at one, or ``"free"``.
    """

    options = frozenset({"scale"})

    def __init__(self, num_units: int, scale: str = "fixed") -> None:
        super().__init__(num_units)
        self.outputs_per_unit = 2 if scale == "free" else 1

    def forward(self, outputs: Tensor, temperature: Tensor | float) -> BinaryInvertibleGaussian:
        loc: Tensor = outputs
        scale: Tensor | float = 1.0
        if self.outputs_per_unit == 2:
            loc, log_scale = outputs.chunk(2, dim=-1)
            scale = log_scale.exp()
        return BinaryInvertibleGaussian(loc, scale, temperature, self._transform(), validate_args=False)

    def _transform(self) -> PlanarFlow | None:
        return None


class BinaryPlanarLatent(BinaryGaussianLatent):
    """The same through a planar flow of each unit, trained with the model.

    Arguments:
        num_units: The number U of units.
        scale: ``"fixed"`` at one, or ``"free"``.
        flow_layers: Planar layers of each flow.
        generator: The source of the initial flow.
    """

    options = frozenset({"scale", "flow_layers"})

    def __init__(
        self,
        num_units: int,
        scale: str = "fixed",
        flow_layers: int = 2,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(num_units, scale)
        self.flow = PlanarFlow(2, flow_layers, num_units, generator=generator)

    def _transform(self) -> PlanarFlow:
        return self.flow


# There is no binary IGR-SB: see igr.BinaryInvertibleGaussian.
BINARY_LATENTS: dict[str, type[BinaryLatent]] = {
    "gumbel-softmax": BinaryConcreteLatent,
    "igr": BinaryGaussianLatent,
    "igr-planar": BinaryPlanarLatent,
}


class SOPTerms(NamedTuple):
    r"""What one pass gives, in nats.

    Arguments:
        loss: The negative multi-sample bound, averaged over the images, with shape :math:`()`.
        bound: :math:`\log \frac1S \sum_s p(x_l \mid h_s)`, with shape :math:`(B,)`.
    """

    loss: Tensor
    bound: Tensor

    def __repr__(self) -> str:
        return reprs.of_fields(self)


class SOP(nn.Module):
    r"""Structured output prediction through layers of binary units in {-1, 1}.

    From the upper half :math:`x_u` of an image the lower one is predicted through L layers of units, each
    drawn given the layer before it,

    .. math:: p(x_l \mid x_u) = E_{h \sim p(h_1 \mid x_u) \cdots p(h_L \mid h_{L-1})}\, p(x_l \mid h_L)

    and what is trained is the multi-sample bound (Raiko et al., 2014; Burda et al., 2016)

    .. math:: E \log \frac1S \sum_{s=1}^{S} p(x_l \mid h^{(s)}_L) \leq \log p(x_l \mid x_u)

    of the relaxed model, in which the units are relaxed to (-1, 1), or, straight-through, of the discrete one
    with the gradient of the relaxed units.

    The model is pure: noise and temperature are arguments, nothing branches on the value of a tensor, and so
    replicas can be stacked with ``torch.func``.

    Arguments:
        layers: From what is known to the parameters of each layer of units, and last to those of the pixels.
        latents: The law of each layer of units.
        half_shape: Channels, height and width of the lower half, that is of what is predicted.
        likelihood: The law of the lower half given what the last layer puts out.
        straight_through: Whether units are hard in training, with the gradient of the relaxed ones.

    References:
        | Techniques for Learning Binary Stochastic Feedforward Neural Networks (Raiko, Berglund, Alain and
          Dinh, 2014)
        | The Concrete Distribution (Maddison, Mnih and Teh, 2017), the experiment of this name
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        latents: Sequence[BinaryLatent],
        half_shape: tuple[int, int, int],
        likelihood: Likelihood | None = None,
        straight_through: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.latents = nn.ModuleList(latents)
        self.half_shape = half_shape
        self.likelihood = LIKELIHOODS["bernoulli"] if likelihood is None else likelihood
        self.straight_through = straight_through
        self._noise_law: tuple[tuple[torch.dtype, torch.device], BinaryRelaxation] | None = None

    @property
    def num_units(self) -> int:
        """The number U of units of a layer."""
        return self._latents()[0].num_units

    @property
    def num_layers(self) -> int:
        """The number L of layers of units."""
        return len(self.latents)

    @property
    def largest_per_sample(self) -> int:
        """Numbers of the largest tensor that a sample of one image makes."""
        pixels = self.likelihood.parameters_per_pixel * math.prod(self.half_shape)
        return max(self.num_layers * self.num_units, self._latents()[0].num_outputs, pixels)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is known of images :math:`(B, C, H, W)`, and what is predicted."""
        height = x.shape[-2] - self.half_shape[-2]
        return x[..., :height, :], x[..., height:, :]

    def draw_noise(self, sample_shape: Sequence[int], generator: Generator | None = None) -> Tensor:
        """The noise of all layers: the only random step.

        Arguments:
            sample_shape: The shape :math:`(*S)` of samples and of images together, such as :math:`(S, B)`.
            generator: The source of randomness; torch's default one if ``None``.

        Shapes:
            Result :math:`(*S, L, U)`.
        """
        parameter = next(self.parameters())
        kind = parameter.dtype, parameter.device
        kept = self._noise_law
        if kept is None or kept[0] != kind:
            # It asks nothing of a law but its kind and shape, so that one is enough; what a tracer made is
            # of no use outside of it.
            shape = (self.num_layers, self._latents()[0].num_outputs)
            kept = kind, self._latents()[0](parameter.new_zeros(shape), 1.0)
            self._noise_law = None if is_traced() else kept
        return kept[1].draw_noise(sample_shape, generator)

    def units(
        self, known: Tensor, noise: Tensor, temperature: Tensor | float, form: str = "relaxed"
    ) -> Tensor:
        """The units of the last layer, with shape :math:`(S, B, U)`.

        Arguments:
            known: Upper halves, with shape :math:`(B, C, H, W)`.
            noise: As :meth:`draw_noise` gives it for :math:`(S, B)`.
            temperature: The temperature of all layers.
            form: ``"relaxed"``, in (-1, 1); ``"hard"``, -1 or 1, without gradient; or
                ``"straight-through"``, -1 or 1 with the gradient of the relaxed ones.
        """
        h = 2.0 * known.flatten(-3) - 1.0
        for index, (layer, latent) in enumerate(zip(self.layers, self._latents(), strict=False)):
            # At twice the temperature a logit is half as large.
            law: BinaryRelaxation = latent(layer(h), 2.0 * temperature)
            logit = law.rsample_logit(noise=noise[..., index, :])
            # 2 z - 1, which loses nothing at either end.
            h = torch.tanh(logit)
            if form != "relaxed":
                hard = torch.where(logit.detach() >= 0, 1.0, -1.0).to(h.dtype)
                h = hard if form == "hard" else straight_through(hard, h)
        return h

    def pixels(self, units: Tensor) -> Distribution:
        """The law of the lower half given the last layer's units, with batch shape :math:`(*)`."""
        outputs = self.layers[-1](units)
        return self.likelihood.law(
            outputs.unflatten(-1, (self.likelihood.parameters_per_pixel, *self.half_shape))
        )

    def log_likelihood(
        self, x: Tensor, noise: Tensor, temperature: Tensor | float, form: str = "relaxed"
    ) -> Tensor:
        r""":math:`\log p(x_l \mid h_L)` of each sample, in nats.

        Arguments:
            x: Whole images, with shape :math:`(B, C, H, W)`.
            noise: As :meth:`draw_noise` gives it for :math:`(S, B)`.
            temperature: The temperature of all layers.
            form: That of the units, as for :meth:`units`.

        Shapes:
            Result :math:`(S, B)`.
        """
        known, wanted = self.split(x)
        return self.pixels(self.units(known, noise, temperature, form)).log_prob(wanted)

    def forward(self, x: Tensor, noise: Tensor, temperature: Tensor | float) -> SOPTerms:
        """The loss and the bound that is trained.

        Arguments:
            x: Images in the form that the likelihood needs, with shape :math:`(B, C, H, W)`.
            noise: As :meth:`draw_noise` gives it for :math:`(S, B)`.
            temperature: The temperature of all layers.
        """
        form = "straight-through" if self.straight_through else "relaxed"
        log_likelihood = self.log_likelihood(x, noise, temperature, form)
        bound = log_mean_exp(log_likelihood)
        return SOPTerms(-bound.mean(), bound)

    def _latents(self) -> Sequence[BinaryLatent]:
        return self.latents  # type: ignore[return-value]


def lower_half(image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Channels, height and width of what is predicted; where there is a middle row, it is known."""
    channels, height, width = image_shape
    return channels, height // 2, width


def log_mean_exp(values: Tensor) -> Tensor:
    """The logarithm of the mean of the exponentials over the first dimension."""
    return values[0] if len(values) == 1 else values.logsumexp(0) - math.log(len(values))


def sop_layers(
    network: SOPNetwork,
    latents: Sequence[BinaryLatent],
    num_known: int,
    num_outputs: int,
    generator: Generator,
) -> list[nn.Module]:
    """The maps of a network, each linear or through tanh layers, with the initial weights of a generator.

    Arguments:
        network: How many layers there are.
        latents: The law of each layer of units.
        num_known: Pixels that are known.
        num_outputs: Parameters of the pixels that are predicted.
        generator: The source of the weights.
    """
    num_units = latents[0].num_units
    inputs = [num_known, *[num_units] * len(latents)]
    outputs = [*(latent.num_outputs for latent in latents), num_outputs]
    made: list[nn.Module] = []
    for fan_in, fan_out in zip(inputs, outputs, strict=True):
        widths = [fan_in, *[num_units] * network.num_hidden, fan_out]
        parts: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            parts += [initialized(nn.Linear(before, after, device="meta"), generator), nn.Tanh()]
        made.append(nn.Sequential(*parts[:-1]))
    return made
