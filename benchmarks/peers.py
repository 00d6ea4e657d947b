"""One draw, forward and backward, beside the other libraries that have such a law.

    pip install -e '.[experiments,peers]'
    python benchmarks/peers.py

The ratios are to ``torch.nn.functional.gumbel_softmax``. Pyro's law is torch's own with a straight-through
gradient. TensorFlow Probability runs on JAX here, compiled, on the same number of cores. A library that is
not installed, or that does not import, is left out, and it is said why.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import igr
from harness import Timing, compare, save, show

SHAPES = [(100, 20, 10), (256, 64, 64), (1024, 1, 1000)]
TEMPERATURE = 0.5
BASELINE = "torch.nn.functional.gumbel_softmax"

Candidates = dict[str, Callable[[], object]]


class Inputs:
    """Parameters at (batch, variables, K), the same for all that run on torch, and a gradient of points."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        generator = torch.Generator().manual_seed(0)
        self.logits = torch.randn(shape, generator=generator).requires_grad_()
        self.loc = torch.randn(*shape[:-1], shape[-1] - 1, generator=generator).requires_grad_()
        self.scale = torch.rand(self.loc.shape, generator=generator).add(0.5).requires_grad_()
        self.upstream = torch.randn(shape, generator=generator)

    def of_logits(self, points: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(points(self.logits), self.logits, self.upstream)

    def of_normals(self, points: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
        inputs = (self.loc, self.scale)
        return lambda: torch.autograd.grad(points(*inputs), inputs, self.upstream)


def ours(inputs: Inputs) -> Candidates:
    return {
        BASELINE: inputs.of_logits(lambda x: torch.nn.functional.gumbel_softmax(x, TEMPERATURE)),
        "igr, Gumbel-Softmax": inputs.of_logits(lambda x: igr.functional.gumbel_softmax(x, TEMPERATURE)),
        "igr, InvertibleGaussian": inputs.of_normals(
            lambda m, s: igr.InvertibleGaussian(m, s, TEMPERATURE, validate_args=False).rsample()
        ),
        "igr, IGR-I": inputs.of_normals(lambda m, s: igr.functional.invertible_gaussian(m, s, TEMPERATURE)),
    }


def pyro(inputs: Inputs) -> Candidates:
    from pyro.distributions import RelaxedOneHotCategoricalStraightThrough

    temperature = torch.tensor(TEMPERATURE)

    def points(logits: Tensor) -> Tensor:
        drawn: Tensor = RelaxedOneHotCategoricalStraightThrough(temperature, logits=logits).rsample()
        return drawn

    return {"Pyro, RelaxedOneHotCategoricalStraightThrough": inputs.of_logits(points)}


def relaxit(inputs: Inputs) -> Candidates:
    from relaxit.distributions import InvertibleGaussian

    temperature = torch.tensor(TEMPERATURE)

    def points(loc: Tensor, scale: Tensor) -> Tensor:
        drawn: Tensor = InvertibleGaussian(loc, scale, temperature).rsample()
        return drawn

    return {"relaxit, InvertibleGaussian": inputs.of_normals(points)}


def tensorflow_probability(inputs: Inputs) -> Candidates:
    import jax
    from tensorflow_probability.substrates.jax.distributions import RelaxedOneHotCategorical

    logits, upstream = (jax.numpy.asarray(t.detach().numpy()) for t in (inputs.logits, inputs.upstream))
    keys = iter(jax.random.split(jax.random.key(0), 100_000))

    def weighted(logits: object, key: object) -> object:
        return (RelaxedOneHotCategorical(TEMPERATURE, logits=logits).sample(seed=key) * upstream).sum()

    gradient = jax.jit(jax.grad(weighted))
    return {
        "TensorFlow Probability on JAX, RelaxedOneHotCategorical": lambda: jax.block_until_ready(
            gradient(logits, next(keys))
        )
    }


PEERS = {"pyro": pyro, "relaxit": relaxit, "tensorflow-probability": tensorflow_probability}


def main() -> None:
    tables: dict[str, list[Timing]] = {}
    left_out: dict[str, str] = {}
    for shape in SHAPES:
        inputs = Inputs(shape)
        candidates = ours(inputs)
        for name, peer in PEERS.items():
            try:
                found = peer(inputs)
                for call in found.values():
                    call()
            except Exception as error:  # whatever another library raises
                left_out[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            else:
                candidates |= found
        title = "batch {}, variables {}, K {}".format(*shape)
        tables[title] = compare(candidates, BASELINE)
        show(title, tables[title])
    notes = (__doc__ or "").strip()
    for name, reason in left_out.items():
        line = f"Left out: {name} ({reason})"
        print(line)
        notes = f"{notes}\n\n{line}"
    print(f"\nwritten: {save('peers', 'cpu', tables, notes)}")


if __name__ == "__main__":
    main()
