"""Laws of igr in Pyro: a discrete law that is enumerated, and relaxations in model and guide.

    pip install -e ".[interoperability]"
    python examples/pyro_svi.py

Both models are so small that their posteriors are known exactly, and what SVI finds is compared with them.
"""

from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor

import igr
from igr.pyro import to_pyro

POSITIVE = dist.constraints.positive


class Found(NamedTuple):
    """What SVI found, beside what is right."""

    found: Tensor
    exact: Tensor


def clusters_by_enumeration(num_steps: int = 150) -> Found:
    """Which of three clusters each of five numbers comes from.

    The guide has one IGR for each number and gives Pyro its discrete law, which is exact. It is summed over,
    so the gradient of a step has no noise.
    """
    means = torch.tensor([-2.0, 0.0, 2.0])
    numbers = torch.tensor([-1.8, -0.7, 0.1, 0.9, 2.5])
    prior = igr.fitting.uniform_prior(3, "igr").discrete()

    def model() -> None:
        with pyro.plate("numbers", len(numbers)):
            cluster = pyro.sample("cluster", to_pyro(prior))  # one-hot, [*, 3]
            pyro.sample("number", dist.Normal(cluster @ means, 1.0), obs=numbers)

    def guide() -> igr.DiscreteLaw:
        loc = pyro.param("loc", torch.zeros(len(numbers), 2))
        law = igr.InvertibleGaussian(loc, torch.ones(2), temperature=0.5).discrete()
        with pyro.plate("numbers", len(numbers)):
            pyro.sample("cluster", to_pyro(law), infer={"enumerate": "parallel"})
        return law

    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    svi = SVI(model, guide, ClippedAdam({"lr": 0.1, "lrd": 0.99}), TraceEnum_ELBO(max_plate_nesting=1))
    for _ in range(num_steps):
        svi.step()
    exact = dist.Normal(means, 1.0).log_prob(numbers[:, None]).softmax(-1)
    return Found(guide().probs.detach(), exact)


class Shares(NamedTuple):
    """Means and scales of the log-ratios of some shares."""

    loc: Found
    scale: Found


def noisy_shares(num_steps: int = 150) -> Shares:
    """Shares of three parts, of which the log-ratios are observed with noise.

    Shares are points of the simplex, so a relaxation is their prior. The log-ratios of an IGR-I are Gaussian,
    hence the posterior is another IGR-I. TraceMeanField_ELBO takes the KL in closed form.
    """
    temperature, noise = 0.5, 0.6
    loc, scale = torch.tensor([0.3, -0.2]), torch.tensor([1.0, 0.7])
    observed = torch.tensor([[1.0, 0.5], [-1.0, 0.2], [0.3, 2.0]])

    def model() -> None:
        prior = igr.InvertibleGaussian(loc, scale, temperature)
        with pyro.plate("rows", len(observed)):
            shares = pyro.sample("shares", to_pyro(prior))
            ratios = temperature * (shares[..., :-1] / shares[..., -1:]).log()
            pyro.sample("ratios", dist.Normal(ratios, noise).to_event(1), obs=observed)

    def guide() -> igr.InvertibleGaussian:
        law = igr.InvertibleGaussian(
            pyro.param("loc", torch.zeros(len(observed), 2)),
            pyro.param("scale", torch.ones(len(observed), 2), constraint=POSITIVE),
            temperature,
        )
        with pyro.plate("rows", len(observed)):
            pyro.sample("shares", to_pyro(law))
        return law

    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    bound = TraceMeanField_ELBO(num_particles=8, vectorize_particles=True, max_plate_nesting=1)
    svi = SVI(model, guide, ClippedAdam({"lr": 0.05, "lrd": 0.99}), bound)
    for _ in range(num_steps):
        svi.step()
    law = guide()
    precision = scale**-2 + noise**-2
    exact_loc = (loc / scale**2 + observed / noise**2) / precision
    return Shares(
        Found(law.loc.detach(), exact_loc),
        Found(law.scale.detach(), precision.rsqrt().expand_as(exact_loc)),
    )


def main() -> None:
    """Prints what was found beside what is right."""
    torch.set_printoptions(precision=4, sci_mode=False)
    clusters = clusters_by_enumeration()
    print("Probabilities of three clusters for each of five numbers, found by enumeration:")
    print(clusters.found)
    print(f"largest distance from the exact posterior: {(clusters.found - clusters.exact).abs().max():.1e}")
    shares = noisy_shares()
    print("\nMeans of the log-ratios of three shares in each of three rows, found by relaxed samples:")
    print(shares.loc.found)
    for name, (found, exact) in (("means", shares.loc), ("scales", shares.scale)):
        print(f"largest distance of the {name} from the exact ones: {(found - exact).abs().max():.3f}")


if __name__ == "__main__":
    main()
