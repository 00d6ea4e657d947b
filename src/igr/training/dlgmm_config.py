"""The settings of deep latent Gaussian mixture models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from igr.data import SOURCES
from igr.distributions.sticks import SMALLEST_BUCKET
from igr.errors import UserError
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import MIXTURE_NETWORKS
from igr.models.stick_laws import MIXTURES
from igr.training.run_config import (
    FINITE_POSITIVE,
    RunConfig,
    at_least,
    check_choices,
    check_device,
    check_ranges,
)

COMPONENTS = ("averaged", "summed")
# What an open setting becomes where the weights have such a one.
_DEFAULTS = {"temperature": 1.0, "stick_threshold": 0.99, "stick_quantile": 0.75}


@dataclass(frozen=True)
class DLGMMConfig(RunConfig):
    """What mixture model is trained, on what, and for how long."""

    model: ClassVar[str] = "dlgmm"
    told: ClassVar[tuple[str, ...]] = ("latent", "component")
    bound_names: ClassVar[Mapping[str, str]] = {
        "relaxed_elbo": "ELBO",
        "importance_weighted": "IW bound",
    }
    about_bounds: ClassVar[str | None] = (
        "Both bound log p(x) of one and the same model, with all of its components: the ELBO is the bound of "
        "training by one sample, without truncation, and the IW bound, which is tighter, the logarithm of "
        "the mean of importance weights over all samples, in which the component is summed out."
    )

    network: str = "dlgmm_dense"
    """The encoder and decoder: dlgmm_dense, or dlgmm_conv."""

    likelihood: str = "bernoulli"
    """The law of a pixel: bernoulli (binary); grey: normal, normal-elu (original's), continuous-bernoulli."""

    latent: str = "dlgmm-igr"
    """The weights: dlgmm (Kumaraswamy sticks), dlgmm-igr (logit-normal), either with -truncated."""

    component: str = "averaged"
    """The component in the bound that is trained: averaged by its weight (the paper's), or summed out."""

    num_components: int = 20
    """Components; truncated: the most there can be."""

    continuous_dim: int = 50
    """Dimensions of each component."""

    concentration: float = 1.0
    """Of the prior of the sticks, Beta(1, this), or the closest Gaussian; the larger, the more components."""

    prior_separation: float = 1.0
    """Means of the prior's components are on corners of a hypercube, so far from zero in each dimension."""

    temperature: float | None = None
    """Temperature of logit-normal weights (dlgmm-igr); None: 1, at which they are lengths of sticks."""

    stick_threshold: float | None = None
    """Sum of weights that the sticks kept have to reach (truncated); None: 0.99."""

    stick_quantile: float | None = None
    """Share of pilot draws that are to reach it (truncated); None: 0.75."""

    num_samples: int | None = None
    """Latent samples per image in training and validation; None: 1."""

    num_eval_samples: int = 100
    """Latent samples per image that `igr evaluate` takes if it is not told otherwise."""

    epochs: int = 300
    """Passes over the training images."""

    learning_rate: float = 3e-4
    """Learning rate of Adam."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        return SOURCES[self.data].image_shape

    @property
    def least_parameters(self) -> int:
        return 64 * self.num_components * self.continuous_dim

    @property
    def has_categories(self) -> bool:
        """Whether there is a categorical latent: a component is summed over."""
        return False

    @property
    def uses_temperature(self) -> bool:
        """Whether the temperature has a part in training."""
        return "temperature" in MIXTURES[self.latent].options

    @property
    def is_truncated(self) -> bool:
        """Whether training keeps no more sticks than a batch needs."""
        return MIXTURES[self.latent].is_truncated

    def resolved(self) -> Self:
        self._check()
        options = MIXTURES[self.latent].options
        own = {name: value for name, value in _DEFAULTS.items() if name in options}
        return self.filled({**own, "num_samples": 1})

    @property
    def run_name(self) -> str:
        parts = [self.data, self.network, self.latent, f"k{self.num_components}"]
        parts += ["summed"] if self.component == "summed" else []
        parts += [f"t{self.temperature:g}"] if self.uses_temperature and self.temperature != 1.0 else []
        return "-".join([*parts, f"s{self.seed}"])

    @property
    def described(self) -> str:
        return f"a mixture of at most {self.num_components} components with {self.latent} weights"

    def warnings(self) -> list[str]:
        if self.is_truncated and self.num_components - 1 <= SMALLEST_BUCKET:
            return [
                f"truncation keeps {SMALLEST_BUCKET} sticks at least, so that of {self.num_components} "
                "components none is ever cut; take more components, or leave -truncated out"
            ]
        return []

    def _check(self) -> None:
        check_choices(
            self,
            {
                "network": MIXTURE_NETWORKS,
                "likelihood": LIKELIHOODS,
                "latent": MIXTURES,
                "component": COMPONENTS,
            },
        )
        share = (lambda value: 0 < value < 1, "a number above 0 and below 1")
        check_ranges(
            self,
            {
                "num_components": at_least(2),
                "continuous_dim": at_least(1),
                "concentration": FINITE_POSITIVE,
                "prior_separation": (lambda value: 0 <= value < float("inf"), "a number of at least 0"),
                "stick_threshold": share,
                "stick_quantile": (lambda value: 0 < value <= 1, "a number above 0 and at most 1"),
            },
        )
        for name in _DEFAULTS:
            value = getattr(self, name)
            if value is not None and name not in MIXTURES[self.latent].options:
                raise UserError(
                    f"expected no {name} with the weights {self.latent}, which have none; got {value}; leave "
                    f"{name} out"
                )
        if self.continuous_dim < 63 and self.num_components > 2**self.continuous_dim:
            raise UserError(
                f"expected at most 2^continuous_dim = {2**self.continuous_dim} components, as many as there "
                f"are corners for their means; got {self.num_components}; change num_components or "
                "continuous_dim"
            )
        MIXTURE_NETWORKS[self.network].check(self.image_shape)
        check_device(self)
