"""The laws on a CUDA device give what they give on the CPU: run with ``-m gpu``."""

import pytest
import torch
from torch.distributions import kl_divergence

import igr
from igr.training import loop
from igr.training.config import TrainConfig
from igr.training.runs import RunFolder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

LAWS = {
    "igr": lambda device: igr.InvertibleGaussian(
        torch.linspace(-2.0, 2.0, 27, device=device).view(3, 9),
        torch.linspace(0.3, 2.0, 27, device=device).view(3, 9),
        0.3,
        delta=0.5,
    ),
    "gumbel-softmax": lambda device: igr.GumbelSoftmax(
        0.3, logits=torch.linspace(-2.0, 2.0, 30, device=device).view(3, 10)
    ),
    "sticks": lambda device: igr.InvertibleGaussian(
        torch.linspace(-2.0, 2.0, 27, device=device).view(3, 9),
        torch.linspace(0.5, 1.5, 27, device=device).view(3, 9),
        0.3,
        igr.LogisticStickBreakingTransform("log"),
    ),
    "masked": lambda device: igr.InvertibleGaussian(
        torch.linspace(-2.0, 2.0, 27, device=device).view(3, 9),
        1.0,
        0.3,
        mask=(torch.arange(30, device=device) % 4 == 1).view(3, 10) & (torch.arange(10, device=device) < 9),
    ),
}


@pytest.mark.parametrize("make", LAWS.values(), ids=LAWS)
def test_every_function_of_the_noise_equals_the_cpu(make):
    here, there = make("cpu"), make("cuda")
    noise = here.draw_noise((50,), torch.Generator().manual_seed(0))
    moved = noise.cuda()
    for a, b in (
        (here.rsample(noise=noise), there.rsample(noise=moved)),
        (here.rsample_log(noise=noise), there.rsample_log(noise=moved)),
        (here.rsample_and_log_prob(noise=noise)[1], there.rsample_and_log_prob(noise=moved)[1]),
        (here.discrete().probs, there.discrete().probs),
        (
            kl_divergence(here.discrete(), here.with_temperature(1.0).discrete()),
            kl_divergence(there.discrete(), there.with_temperature(1.0).discrete()),
        ),
    ):
        torch.testing.assert_close(b.cpu(), a, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", LAWS.values(), ids=LAWS)
def test_draws_follow_their_generator_and_their_law(make):
    law = make("cuda")
    first, second = (law.rsample((5,), torch.Generator("cuda").manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    drawn = law.discrete("monte_carlo", num_samples=100_000, generator=torch.Generator("cuda").manual_seed(2))
    assert ((drawn.probs - law.discrete().probs) / drawn.standard_error).abs().max() < 5


def test_a_flow_on_the_device_equals_the_cpu():
    flow = igr.PlanarFlow(10, 2, generator=torch.Generator().manual_seed(0))
    here = igr.InvertibleGaussian(torch.linspace(-1.0, 1.0, 9), 1.0, 0.5, flow)
    noise = here.draw_noise((50,), torch.Generator().manual_seed(0))
    log_z, density = here.rsample_log(noise=noise), here.rsample_and_log_prob(noise=noise)[1]
    there = igr.InvertibleGaussian(torch.linspace(-1.0, 1.0, 9).cuda(), 1.0, 0.5, flow.cuda())
    torch.testing.assert_close(there.rsample_log(noise=noise.cuda()).cpu(), log_z, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(there.log_prob_of_log(log_z.cuda()).cpu(), density, rtol=1e-4, atol=1e-3)
    means = there.mean_estimate("quasi_monte_carlo", num_samples=4096).value
    assert means.device.type == "cuda"


@pytest.mark.parametrize("form", [{}, {"binarization": "stochastic"}, {"likelihood": "normal"}])
def test_a_run_trains_on_the_device(tmp_path, form):
    config = TrainConfig(device="cuda", epochs=3, max_images=300, network="dense", **form)
    loop.train(config, tmp_path / "run")
    first, *_, last = RunFolder(tmp_path / "run").metrics()
    assert last["validation_bound"] > first["validation_bound"]
