"""The laws of igr as distributions of Pyro, for ``pyro.sample`` in models and guides.

Needs the extra ``interoperability``, and is imported by nothing else in igr.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Size, Tensor
from torch.distributions import Distribution, OneHotCategorical, constraints, kl_divergence, register_kl

from igr.distributions import BinaryRelaxation, DiscreteLaw, SimplexRelaxation

try:
    from pyro.distributions import TorchDistribution
except ImportError as error:
    # A package named pyro is another one.
    raise ImportError(
        "igr.pyro needs Pyro, whose package is named pyro-ppl; install it with "
        "pip install 'igr[interoperability]'"
    ) from error

__all__ = ["PyroLaw", "PyroLogLaw", "to_pyro"]


class PyroLaw(TorchDistribution):
    """A law of igr, with everything that Pyro asks of a distribution.

    It draws what :attr:`law` draws from torch's default generator (that of ``pyro.set_rng_seed``), and is
    expanded, masked, scaled and made independent as any other in Pyro. ``mask`` is Pyro's method; the
    categories that are masked in a relaxation are those of ``law.mask``. Divergences are those of the laws:
    ``TraceMeanField_ELBO`` finds the closed form where there is one. A :class:`igr.DiscreteLaw` can be
    enumerated.

    Arguments:
        law: The law.
    """

    arg_constraints = {}  # noqa: RUF012 (torch reads it from the class)

    def __init__(self, law: Distribution) -> None:
        self.law = law
        # No properties, since Pyro sets the first by has_rsample_().
        self.has_rsample = law.has_rsample
        self.has_enumerate_support = law.has_enumerate_support
        # The law does the checks.
        super().__init__(law.batch_shape, law.event_shape, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> PyroLaw:
        """A view with another batch shape."""
        new = type(self)(self.law.expand(Size(batch_shape)))
        new.has_rsample = self.has_rsample
        return new

    @constraints.dependent_property
    def support(self) -> Any:
        """That of the law."""
        return self.law.support

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Points of the law, with gradients."""
        return self.law.rsample(Size(sample_shape))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Points of the law, without gradients."""
        return self.law.sample(Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density, or log-probability, of the law."""
        return self.law.log_prob(value)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All vertices, of a discrete law."""
        return self.law.enumerate_support(expand=expand)

    def entropy(self) -> Tensor:
        """That of the law, where it is known."""
        return self.law.entropy()

    @property
    def mean(self) -> Tensor:
        """That of the law, where it is known."""
        return self.law.mean

    @property
    def variance(self) -> Tensor:
        """That of the law, where it is known."""
        return self.law.variance

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.law!r})"


class PyroLogLaw(PyroLaw):
    r"""The law of log z, for a relaxation of z: sites at low temperatures, where z itself underflows.

    Values are logarithms of points, :math:`\log z` with event shape :math:`(K,)`; a model takes their
    exponential. The density is one of log z, with respect to Lebesgue measure on its first K - 1 coordinates,

    .. math:: \log p(\log z) = \log p(z) + \sum_{k<K} \log z_k

    and is finite wherever log z is. Where guide and model both have a site in this form, an ELBO is the same
    as with z. Divergences are those of z, which are the same.

    Arguments:
        law: A relaxation without a mask.
    """

    law: SimplexRelaxation

    def __init__(self, law: SimplexRelaxation) -> None:
        if law.mask is not None:
            raise ValueError(
                "PyroLogLaw: expected a relaxation without masked categories, whose logarithms are minus "
                f"infinity; got {law!r}; leave out log=True."
            )
        super().__init__(law)

    @constraints.dependent_property
    def support(self) -> Any:
        """Logarithms, of which nothing is checked."""
        return constraints.real_vector

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """log z, with gradients."""
        return self.law.rsample_log(Size(sample_shape))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """log z, without gradients."""
        return self.rsample(sample_shape).detach()

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density of log z."""
        return self.law.log_prob_of_log(value) + value[..., :-1].sum(-1)

    @property
    def mean(self) -> Tensor:
        """Not known."""
        raise NotImplementedError("PyroLogLaw: the mean of log z has no closed form; average draws.")


def to_pyro(law: Distribution, *, log: bool = False) -> PyroLaw:
    """A law of igr as a distribution of Pyro.

    Arguments:
        law: A relaxation on the simplex, a binary one, or the :class:`igr.DiscreteLaw` of one.
        log: Whether values are log z instead of z, for a relaxation on the simplex.

    Raises:
        TypeError: It is another distribution, which Pyro has under the same name.
        ValueError: For ``log=True`` where categories are masked.

    Example:
        >>> import igr, pyro, torch
        >>> law = igr.InvertibleGaussian(torch.zeros(2), torch.ones(2), temperature=0.5)
        >>> with pyro.plate("data", 4):
        ...     z = pyro.sample("z", to_pyro(law))
        >>> z.shape
        torch.Size([4, 3])
    """
    if log:
        if not isinstance(law, SimplexRelaxation):
            raise TypeError(
                f"to_pyro: expected a relaxation on the simplex with log=True; got {type(law).__name__}; "
                "leave log out."
            )
        return PyroLogLaw(law)
    if isinstance(law, PyroLaw) or not isinstance(law, SimplexRelaxation | BinaryRelaxation | DiscreteLaw):
        raise TypeError(
            f"to_pyro: expected a law of igr (a relaxation, or its discrete law); got {type(law).__name__}; "
            "take what pyro.distributions has under that name."
        )
    return PyroLaw(law)


@register_kl(PyroLaw, PyroLaw)
def _kl_of_laws(p: PyroLaw, q: PyroLaw) -> Tensor:
    if isinstance(p, PyroLogLaw) != isinstance(q, PyroLogLaw):
        raise NotImplementedError(
            f"KL({p!r} || {q!r}): one is a law of z and the other of log z; give both or neither log=True."
        )
    return kl_divergence(p.law, q.law)


@register_kl(PyroLaw, OneHotCategorical)
def _kl_to_categorical(p: PyroLaw, q: OneHotCategorical) -> Tensor:
    return kl_divergence(p.law, q)


@register_kl(OneHotCategorical, PyroLaw)
def _kl_from_categorical(p: OneHotCategorical, q: PyroLaw) -> Tensor:
    return kl_divergence(p, q.law)
