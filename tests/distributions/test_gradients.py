"""Gradients are finite at every temperature, and the right ones where differences can check them."""

import pytest
import torch

from cases import CASES, NUMBERS, Case, Sticks, available, bits, each, gaussian, generator, gumbel, planar

TEMPERATURES = [1e-6, 1e-3, 0.1, 1.0, 30.0, 1e3]
LAWS = {
    "gs-K2": gumbel(2),
    "gs-K10": gumbel(10, (2, 3)),
    "igr-K2": gaussian(2),
    "igr-K10": gaussian(10, (2, 3)),
    "igr-K3-delta": gaussian(3, (4,), delta=torch.tensor(0.1, dtype=torch.float64)),
    "igr-sinh": CASES["igr-K3-sinh"],
    "igr-composed": CASES["igr-K4-composed"],
    "gs-probs": CASES["gs-probs"],
    "sb-length": gaussian(4, (2,), scale=0.6, transform=Sticks()),
    "sb-log": gaussian(4, (2,), delta=torch.tensor(0.5, dtype=torch.float64), transform=Sticks("log")),
    "planar-flow": planar(4, (2,), num_layers=2),
    "gs-masked": gumbel(4, (3,), mask=bits("0100", "1010", "1101")),
    "igr-masked": gaussian(
        4, (3,), delta=torch.tensor(0.1, dtype=torch.float64), mask=bits("0100", "1010", "1110")
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("name", LAWS)
def test_every_gradient_is_finite_at_every_temperature(name, temperature, dtype):
    case = LAWS[name]
    tensors = {**case.tensors(dtype), "temperature": torch.tensor(temperature, dtype=dtype)}
    leaves = {key: value.requires_grad_() for key, value in tensors.items()}
    law = case.law(dtype, **leaves)
    noise = law.draw_noise((50,), generator=generator(0))
    log_z = law.rsample_log(noise=noise)
    results = {
        "z": law.rsample(noise=noise).square().sum(),
        "log z": available(law, log_z).sum(),
        "log-density of the draw": law.rsample_and_log_prob(noise=noise)[1].sum(),
        "points": law.rsample_and_log_prob(noise=noise)[0].square().sum(),
        "log-density at log z": law.log_prob_of_log(log_z.detach()).sum(),
    }
    if case.has_exact_law:
        results["discrete"] = law.discrete().entropy().sum()
    for result, value in results.items():
        assert torch.isfinite(value), result
        gradients = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, retain_graph=True)
        for parameter, gradient in zip(leaves, gradients, strict=True):
            # The density at a given point may not depend on a temperature alone; nothing else may be unused.
            if gradient is None:
                assert result == "discrete", (result, parameter)
                continue
            assert torch.isfinite(gradient).all(), (result, parameter)


@each(where=lambda case: not case.is_cold)
def test_gradients_are_those_of_differences(case: Case):
    """In every tensor parameter at once, and in the temperature."""
    leaves = case.tensors()
    leaves.setdefault("temperature", torch.tensor(case.settings.get("temperature", 1.0), dtype=torch.float64))
    names = list(leaves)
    noise = case.law().draw_noise(generator=generator(0))

    def results(*values):
        law = case.law(**dict(zip(names, values, strict=True)))
        z, log_prob = law.rsample_and_log_prob(noise=noise)
        return law.rsample(noise=noise), available(law, law.rsample_log(noise=noise)), z, log_prob

    inputs = tuple(value.requires_grad_() for value in leaves.values())
    assert torch.autograd.gradcheck(results, inputs, eps=1e-7, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gs-K3-batch", "igr-K3-batch", "gs-K4-masked", "igr-K4-masked"])
def test_the_density_has_second_derivatives(name):
    case = CASES[name]
    log_z = case.law().rsample_log(generator=generator(0))
    names = [key for key in case.parameters if key not in NUMBERS]

    def density(*values):
        return case.law(**dict(zip(names, values, strict=True))).log_prob_of_log(log_z)

    inputs = tuple(case.tensors()[key].requires_grad_() for key in names)
    assert torch.autograd.gradgradcheck(density, inputs)
