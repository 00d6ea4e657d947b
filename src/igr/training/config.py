"""The settings of a VAE: one flat dataclass for Python, the command line and the run folder."""

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import ClassVar, Self, cast

from igr.data import SOURCES
from igr.estimators import by_name
from igr.models.joint_vae import Capacity
from igr.models.latents import GAUSSIAN, LATENTS
from igr.models.networks import NETWORKS
from igr.training.checks import PATHWISE, check
from igr.training.run_config import RunConfig

RELAXED_WARMUP = 5
CAPACITY_WEIGHT = 30.0
CONTINUOUS_DIM = 10


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """What VAE is trained, on what, and for how long."""

    model: ClassVar[str] = "vae"
    told: ClassVar[tuple[str, ...]] = ("latent", "kl")
    decisive: ClassVar[tuple[str, ...]] = ("latent", "kl", "epochs")

    network: str = "dense_nonlinear"
    """The encoder and decoder: dense, dense_nonlinear, dense_relax, conv, or conv_jointvae (resizes)."""

    likelihood: str = "bernoulli"
    """The law of a pixel: bernoulli (binary); grey: normal, normal-elu (original's), continuous-bernoulli."""

    binarization: str = "fixed"
    """Binary images: fixed (cut at half intensity), or stochastic (drawn anew in each epoch)."""

    latent: str = "igr"
    """The latent: igr, igr-planar, igr-sb, igr-sb-log, igr-sb-truncated, gumbel-softmax, or gaussian."""

    num_variables: int = 20
    """Categorical latent variables."""

    num_categories: int = 10
    """Categories of each of them (bernoulli: 2); igr-sb-truncated: the most there can be, 50 in the paper."""

    continuous_dim: int | None = None
    """Dimensions of a Gaussian latent, beside the categorical one if there is one; None: 0 (gaussian 10)."""

    kl: str | None = None
    """The KL that is trained: of the discrete laws (exact), or relaxed (a bound); None: discrete if known."""

    temperature: float | None = None
    """Temperature; None: gumbel-softmax 0.67, others 0.4 (relaxed KL 0.15; lengths, discrete KL 0.05)."""

    prior: str | None = None
    """The prior of a variable, a file written by igr prior for the family of the latent; None: uniform."""

    prior_temperature: float | None = None
    """Temperature of the prior in the relaxed KL and ELBO; None: gumbel-softmax 0.5, igr the posterior's."""

    scale: str | None = None
    """Scale of the Gaussians (igr): fixed at the prior's, or free; None: fixed (relaxed KL free)."""

    flow_layers: int | None = None
    """Planar layers (igr-planar), at most 1,000; None: 4."""

    stick_threshold: float | None = None
    """Sum of lengths that the sticks kept have to reach (igr-sb-truncated); None: 0.9."""

    stick_quantile: float | None = None
    """Share of pilot draws that are to reach it (igr-sb-truncated); None: 0.75."""

    straight_through: bool = False
    """In training the decoder meets the nearest vertex, with the gradient of the relaxed point."""

    estimator: str = "pathwise"
    """Gradient of the encoder: pathwise (relaxed points), reinmax, rebar, relax, ...; see the docs."""

    stick_the_landing: bool = False
    """No gradient through the parameters of the density in a sampled KL (gumbel-softmax, igr-planar)."""

    continuous_capacity: tuple[float, float, int] | None = None
    """JointVAE: nats that the Gaussian latent is held to, from A to B over N steps; None: no capacities."""

    discrete_capacity: tuple[float, float, int] | None = None
    """JointVAE: the same for the categorical latent."""

    capacity_weight: float | None = None
    """JointVAE: weight of the distances of both KLs from their capacities; None: 30."""

    num_samples: int | None = None
    """Latent samples per image in training and validation; None: 1 (vimco and leave-one-out: 2)."""

    num_eval_samples: int = 100
    """Latent samples per image that `igr evaluate` takes if it is not told otherwise."""

    autocast: bool = False
    """In training the networks compute in bfloat16, for GPUs; weights, laws and evaluation stay float32."""

    kl_warmup: int | None = None
    """Epochs in which the weight of the KL rises to 1; None: relaxed 5 (at most a quarter), discrete 0."""

    def resolved(self) -> Self:
        """The same config with every open setting filled in, as the run folder records it.

        What stays ``None`` does not apply to the latent, except ``prior_temperature`` of IGR, which
        then follows the posterior's.

        Raises:
            UserError: A setting has a value that cannot be used.
        """
        check(self)
        kl = self.kl or (LATENTS[self.latent].kls[0] if self.has_categories else "relaxed")
        known = dataclasses.replace(self, kl=kl)
        defaults: dict[str, object] = {
            "kl_warmup": known.default_warmup,
            "continuous_dim": 0 if self.has_categories else CONTINUOUS_DIM,
            "num_samples": by_name(self.estimator).least_samples,
        }
        if self.has_categories:
            defaults |= LATENTS[self.latent].defaults(kl)
        if self.is_joint_vae:
            defaults["capacity_weight"] = CAPACITY_WEIGHT
        filled = {key: value for key, value in defaults.items() if getattr(known, key) is None}
        filled["num_categories"] = self.effective_categories
        for key in ("data_dir", "prior"):
            path = getattr(self, key)
            if path is not None:
                # A run is gone on with and evaluated from other folders too.
                filled[key] = os.path.abspath(path)
        return dataclasses.replace(known, **filled)  # type: ignore[arg-type]

    @property
    def has_categories(self) -> bool:
        """Whether there is a categorical latent."""
        return self.latent != GAUSSIAN

    @property
    def uses_temperature(self) -> bool:
        """Whether the temperature has a part in training."""
        return not self.has_categories or by_name(self.estimator).uses_temperature

    @property
    def effective_categories(self) -> int:
        """The number of categories, which a latent may have the last word on."""
        own = LATENTS[self.latent].fixed_categories if self.has_categories else None
        return self.num_categories if own is None else own

    @property
    def uses_straight_through(self) -> bool:
        """Whether the decoder meets the vertices nearest to relaxed points, with the gradient of these."""
        return self.straight_through or self.estimator == "gumbel_straight_through"

    @property
    def meets_vertices(self) -> bool:
        """Whether the decoder meets vertices in training, as it does in the discrete model."""
        return self.uses_straight_through or self.estimator not in PATHWISE

    @property
    def is_joint_vae(self) -> bool:
        """Whether the KLs are held to capacities."""
        return self.continuous_capacity is not None

    @property
    def capacities(self) -> dict[str, Capacity]:
        """The capacities of a JointVAE, by the names of the arguments of its model; else empty."""
        names = ("continuous_capacity", "discrete_capacity") if self.is_joint_vae else ()
        return {name: Capacity(*getattr(self, name)) for name in names}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images as the network takes them."""
        return NETWORKS[self.network].image_shape(SOURCES[self.data].image_shape)

    @property
    def least_parameters(self) -> int:
        own = self.num_variables * (self.num_categories - 1) if self.has_categories else 0
        outputs = own + cast(int, self.continuous_dim)
        # That network is as wide as what the encoder puts out.
        within = outputs**2 if self.network == "dense_relax" else 0
        return within + 64 * outputs + 3 * (self.flow_layers or 0)

    @property
    def trained_kl(self) -> str:
        """The KL of a resolved config."""
        return cast(str, self.kl)

    @property
    def default_warmup(self) -> int:
        """The ``kl_warmup`` that is taken where none is given.

        With its full weight from the start, the relaxed KL of a categorical latent leaves much of it unused
        for good. A JointVAE has its capacities instead.
        """
        warms = self.kl == "relaxed" and self.has_categories and not self.is_joint_vae
        return min(RELAXED_WARMUP, self.epochs // 4) if warms else 0

    def warnings(self) -> list[str]:
        """Sentences about settings of a resolved config that can be used but that most likely disappoint."""
        found = []
        if self.scale == "free" and self.kl == "discrete" and self.estimator in PATHWISE:
            found.append(
                "scale free with kl discrete lets the encoder shrink the noise at no cost, and the "
                "discrete model, which is the one evaluated, then collapses; use scale fixed, or "
                "kl relaxed"
            )
        if (
            self.has_categories
            and self.temperature != LATENTS[self.latent].defaults(self.trained_kl)["temperature"]
            and not self.uses_temperature
        ):
            found.append(
                f"the temperature has no part in training with the estimator {self.estimator}; it is that of "
                "the relaxed model that igr evaluate reports beside the discrete one"
            )
        most = self.num_variables * math.log(self.num_categories)
        if self.kl == "discrete" and self.discrete_capacity is not None and self.discrete_capacity[1] > most:
            found.append(
                f"discrete_capacity rises to {self.discrete_capacity[1]:g} nats, but the KL of the discrete "
                f"laws can be no more than {most:.3g} (variables times log of categories), so that this "
                "distance never closes; lower it, or use kl relaxed"
            )
        return found

    @property
    def run_name(self) -> str:
        """A readable name for the run of a resolved config."""
        parts = [self.data, self.network, self.latent]
        if self.has_categories:
            parts += [f"gaussian{self.continuous_dim}"] if self.continuous_dim else []
            parts += ["st"] if self.straight_through else []
            parts += [] if self.estimator == "pathwise" else [self.estimator]
            parts += [str(self.kl), f"t{self.temperature:g}"]
        return "-".join([*parts, f"s{self.seed}"])

    @property
    def described(self) -> str:
        """What a resolved config trains, in a few words."""
        return f"{self.latent} with the {self.kl} KL"
