"""Troubles that users report around draws; docs/coming-from-gumbel-softmax.md tells of each."""

import itertools
import json
import math
from importlib.metadata import PackageNotFoundError, version

import pytest
import torch
from torch import Tensor
from torch.distributions import RelaxedOneHotCategorical, kl_divergence
from torch.utils._python_dispatch import TorchDispatchMode

import igr
from cases import generator, tracing
from igr.schedules import ConstantSchedule, CosineSchedule, ExponentialSchedule, LinearSchedule
from other_tools import IS_TORCH, PYRO


def pyro_of_the_page():
    """Pyro's law with hard draws; None where it is not there, or another version."""
    try:
        if not IS_TORCH or version("pyro-ppl") != PYRO:
            return None
    except PackageNotFoundError:
        return None
    from pyro.distributions import RelaxedOneHotCategoricalStraightThrough

    return RelaxedOneHotCategoricalStraightThrough


def hard_and_density(logits: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """One-hot points with the gradient of the relaxed ones, and the density of these."""
    law = igr.GumbelSoftmax(0.5, logits, validate_args=False)
    hard = igr.functional.gumbel_softmax(logits, 0.5, hard=True, noise=drawn)
    return hard, law.rsample_and_log_prob(noise=drawn)[1]


def loss_and_slopes(function, logits: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    hard, density = function(logits, drawn)
    weights = torch.arange(3.0)
    (slope,) = torch.autograd.grad((hard * weights).sum() + 0.1 * density.sum(), logits)
    return hard.detach(), density.detach(), slope


def test_straight_through_that_loses_its_density_when_it_is_copied():
    """A density that hangs on an attribute of a tensor is gone with the next operation."""
    logits = torch.randn(5, 3, generator=generator("straight through"))
    if theirs := pyro_of_the_page():
        law = theirs(torch.tensor(0.5), logits=logits)
        z = law.rsample()
        assert torch.isfinite(law.log_prob(z)).all()
        for copied in (z.clone(), z.detach(), z[:], z.double(), z.view(5, 3)):
            assert law.log_prob(copied).isnan().all()
    law = igr.GumbelSoftmax(0.5, logits)
    drawn = law.draw_noise((), generator("straight through, draws"))
    hard, density = hard_and_density(logits, drawn)
    again = hard_and_density(logits.clone(), drawn.clone().view(5, 3)[:])
    assert torch.equal(hard, again[0])
    assert torch.equal(density, again[1])
    # A vertex and its point are told from the noise, of which both are functions.
    assert torch.equal(hard, law.vertex(drawn))
    assert torch.equal(hard.argmax(-1), law.category(drawn))
    torch.testing.assert_close(density, law.log_prob(law.rsample(noise=drawn)), rtol=1e-4, atol=1e-4)


@tracing
def test_straight_through_under_vmap_and_compile():
    logits = torch.randn(5, 3, generator=generator("vmap"))
    drawn = igr.GumbelSoftmax(0.5, logits).draw_noise((), generator("vmap, draws"))
    if theirs := pyro_of_the_page():

        def draw(row: Tensor) -> Tensor:
            law = theirs(torch.tensor(0.5), logits=row, validate_args=False)
            return law.log_prob(law.rsample())

        with pytest.raises(RuntimeError, match="setup_context"):
            torch.func.vmap(draw, randomness="different")(logits)
        with torch.random.fork_rng():
            assert torch.compile(draw, backend="aot_eager")(logits).isnan().all()
    expected = loss_and_slopes(hard_and_density, logits, drawn)
    assert (expected[0] * (1 - expected[0]) == 0).all()  # exactly one-hot
    # The slope is that of the relaxed point.
    leaf = logits.clone().requires_grad_()
    z, density = igr.GumbelSoftmax(0.5, leaf).rsample_and_log_prob(noise=drawn)
    (slope,) = torch.autograd.grad((z * torch.arange(3.0)).sum() + 0.1 * density.sum(), leaf)
    torch.testing.assert_close(expected[2], slope)
    for name, function in (
        ("vmap", torch.func.vmap(hard_and_density)),
        ("compile", torch.compile(hard_and_density, fullgraph=True, backend="aot_eager")),
    ):
        torch.testing.assert_close(
            loss_and_slopes(function, logits, drawn), expected, msg=lambda text, n=name: f"{n}: {text}"
        )

    def loss(row: Tensor, own: Tensor) -> Tensor:
        hard, density = hard_and_density(row, own)
        return (hard * torch.arange(3.0)).sum() + 0.1 * density.sum()

    slopes = torch.func.vmap(torch.func.grad(loss))(logits, drawn)
    torch.testing.assert_close(slopes, expected[2])


def annealed_as_reported(start: float, lowest: float, rate: float, interval: int, steps: int) -> list[float]:
    """The temperatures of AntixK/PyTorch-VAE#79: multiplied anew at every interval, and never below."""
    temperature, found = start, []
    for step in range(steps):
        if step % interval == 0:
            temperature = max(temperature * math.exp(-rate * step), lowest)
        found.append(temperature)
    return found


def test_a_schedule_that_never_anneals():
    steps, rate = 80_000, 3e-5
    assert set(annealed_as_reported(0.5, 0.5, rate, 100, steps)) == {0.5}
    # From 1 it falls far faster than its rate says, since each factor counts from step zero once more.
    meant = [max(0.1, math.exp(-rate * step)) for step in range(steps)]
    assert annealed_as_reported(1.0, 0.1, rate, 100, steps).index(0.1) < 0.2 * meant.index(0.1)
    last = math.ceil(-math.log(0.1) / rate)
    formulas = {
        ExponentialSchedule(2.0, 0.1, last): lambda f: 2.0 * 0.05**f,
        LinearSchedule(2.0, 0.1, last): lambda f: 2.0 - 1.9 * f,
        CosineSchedule(2.0, 0.1, last): lambda f: 0.1 + 0.95 * (1.0 + math.cos(math.pi * f)),
    }
    for schedule, formula in formulas.items():
        found = [schedule(step) for step in range(0, last, 97)]
        assert found[0] == 2.0
        for step, value in zip(range(0, last, 97), found, strict=True):
            assert value == pytest.approx(formula(step / last), rel=1e-12)
        assert all(a > b for a, b in itertools.pairwise(found))
        assert schedule(last) == schedule(10 * last) == 0.1
        # A step is one call, and a run that goes on has the same temperatures.
        for _ in range(1234):
            schedule.step()
        assert schedule.value == schedule(1234)
        other = type(schedule)(2.0, 0.1, last)
        other.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
        assert other.value == schedule.value
        assert "start=2.0, end=0.1" in repr(schedule)  # what one reads in a log
    assert ExponentialSchedule(1.0, 0.1, last)(5000) == pytest.approx(meant[5000], rel=1e-4)
    assert ConstantSchedule(0.5)(steps) == 0.5  # one that is to stay says so by its name


class Reading(TorchDispatchMode):
    """Raises where Python is to know what a tensor holds: a device would have to be waited for."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (
            torch.ops.aten._local_scalar_dense.default,
            torch.ops.aten.is_nonzero.default,
            torch.ops.aten.equal.default,
            torch.ops.aten.nonzero.default,
        ):
            raise RuntimeError(f"reads values: {function}")
        return function(*args, **(kwargs or {}))


def parameters(device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """loc, scale, a temperature for each row, logits."""
    numbers = torch.linspace(-1.0, 1.0, 20, device=device).view(5, 4)
    return numbers[:, :3].clone(), numbers[:, :3].exp(), numbers[:, 0].exp(), numbers.clone()


def laws(device: str, validate_args: bool):
    """Every kind of law, with tensors wherever there may be some."""
    loc, scale, temperature, logits = (t.requires_grad_() for t in parameters(device))
    mask = torch.zeros(4, dtype=torch.bool, device=device)
    options = {"validate_args": validate_args}
    yield igr.GumbelSoftmax(temperature, logits, **options)
    yield igr.GumbelSoftmax(0.5, logits, mask=mask, **options)
    yield igr.InvertibleGaussian(loc, scale, temperature, **options)
    yield igr.InvertibleGaussian(loc, 1.0, 0.5, mask=mask, **options)
    yield igr.InvertibleGaussian(loc, scale, 0.5, igr.LogisticStickBreakingTransform(), **options)
    yield igr.InvertibleGaussian(loc, scale, 0.5, igr.LogisticStickBreakingTransform("log"), **options)
    yield igr.BinaryConcrete(0.5, logits, **options)
    yield igr.BinaryInvertibleGaussian(logits, 1.0, 0.5, **options)


def has_sticks(law) -> bool:
    return isinstance(getattr(law, "transform", None), igr.LogisticStickBreakingTransform)


def use(law, exact_law: bool) -> None:
    """What a training step asks of a law, and the way back."""
    z, log_prob = law.rsample_and_log_prob((2,))
    total = z.square().sum() + log_prob.sum() + law.log_prob(law.rsample()).sum()
    if exact_law:
        exact = law.discrete()
        total = total + exact.entropy().sum() + kl_divergence(exact, exact.expand(exact.batch_shape)).sum()
    if isinstance(law, igr.InvertibleGaussian | igr.BinaryInvertibleGaussian):
        total = total + kl_divergence(law, law).sum()
    law.vertex(law.draw_noise())
    total.backward()


def test_validation_that_waits_for_the_device():
    """On the meta device nothing can be read, and code goes the way that it goes on a GPU."""
    *_, logits = parameters("meta")
    if IS_TORCH:
        for checked in (True, False):  # turned off, it still checks the categorical law within
            with pytest.raises(RuntimeError, match="meta"):
                RelaxedOneHotCategorical(
                    torch.tensor(0.5, device="meta"), logits=logits, validate_args=checked
                )
    with pytest.raises(RuntimeError, match="meta"):
        next(laws("meta", validate_args=True))
    for law in laws("meta", validate_args=False):
        use(law, exact_law=not has_sticks(law))
    loc, scale, temperature, logits = parameters("meta")
    for hard in (False, True):
        assert igr.functional.gumbel_softmax(logits, temperature, hard).device.type == "meta"
        z = igr.functional.invertible_gaussian(loc, scale, temperature, hard, delta=temperature)
        assert z.device.type == "meta"


@pytest.mark.slow
def test_validation_that_waits_for_the_device_in_the_exact_law_of_sticks():
    for law in laws("meta", validate_args=False):
        if has_sticks(law):
            use(law, exact_law=True)


def test_validation_that_reads_values_even_of_the_cpu():
    loc, scale, temperature, logits = parameters("cpu")
    with Reading():
        with pytest.raises(RuntimeError, match="reads values"):
            igr.GumbelSoftmax(0.5, logits, validate_args=True)
        law = igr.GumbelSoftmax(temperature, logits, validate_args=False)
        drawn = law.draw_noise()
        z, _ = law.rsample_and_log_prob(noise=drawn)
        law.log_prob(z)
        law.discrete().entropy()
        gaussian = igr.InvertibleGaussian(loc, scale, temperature, validate_args=False)
        drawn = gaussian.draw_noise()
        gaussian.log_prob(gaussian.rsample(noise=drawn))
        kl_divergence(gaussian, gaussian)
        igr.functional.gumbel_softmax(logits, temperature, hard=True)
        igr.functional.invertible_gaussian(loc, scale, temperature, hard=True)
