"""The laws on a CUDA device give what they give on the CPU: run with ``-m gpu``."""

import dataclasses
from typing import Any

import pytest
import scipy.stats
import torch
from torch.distributions import kl_divergence

import igr
from igr.evaluation import evaluate
from igr.kernels import fused, gaussian_law_fused
from igr.kernels.gaussian_law import maximum_log_probs
from igr.models.stick_laws import MIXTURES
from igr.training import loop, passes
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import COMPONENTS, DLGMMConfig
from igr.training.replicas import train_replicas
from igr.training.run_config import RunConfig
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run
from igr.training.sop_config import SOPConfig

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


KERNELS = {
    "gumbel": lambda logits, scale: igr.GumbelSoftmax(0.5, logits),
    "gaussian": lambda loc, scale: igr.InvertibleGaussian(loc, scale, 0.5, delta=0.3),
    "lengths": lambda loc, scale: igr.InvertibleGaussian(
        loc, scale, 0.5, igr.LogisticStickBreakingTransform()
    ),
    "log-ratios": lambda loc, scale: igr.InvertibleGaussian(
        loc, scale, 0.5, igr.LogisticStickBreakingTransform("log")
    ),
}


@pytest.fixture
def needs_triton():
    pytest.importorskip("triton", reason="needs the package triton, which torch for CUDA brings along")


@pytest.mark.parametrize("size", [1, 4, 9, 100, 1000, 8000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KERNELS)
def test_one_kernel_draws_what_plain_operations_draw_from_its_noise(kind, dtype, size, needs_triton):
    numbers = torch.Generator("cuda").manual_seed(0)
    size = max(size, 2) if kind == "gumbel" else size
    loc = torch.randn(5, 3, size, device="cuda", generator=numbers).to(dtype).requires_grad_()
    scale = (0.5 + torch.rand(5, 3, size, device="cuda", generator=numbers)).to(dtype).requires_grad_()
    law = KERNELS[kind](loc, scale)
    seed = fused.new_seed(loc.device, torch.Generator("cuda").manual_seed(7))
    noise = fused.noise(kind, seed, 30, size).view(2, *loc.shape)
    points, density = law.rsample_and_log_prob((2,), torch.Generator("cuda").manual_seed(7), fused=True)
    expected, expected_density = law.rsample_and_log_prob(noise=noise)
    unit = torch.finfo(dtype).eps
    # Log-ratios to what is left of a long stick reach into the thousands.
    far = size / 20 if kind == "log-ratios" and size > 20 else 1.0
    torch.testing.assert_close(points, expected, rtol=100 * far * unit, atol=20 * far * unit)
    error = (density.double() - expected_density.double()).abs().max()
    assert error < 20 * unit * (expected_density.double().abs().max() + size)
    leaves = (loc,) if kind == "gumbel" else (loc, scale)
    weight = torch.randn(points.shape, device="cuda", generator=numbers).to(dtype)
    ours = torch.autograd.grad((points * weight).sum() + density.sum(), leaves)
    theirs = torch.autograd.grad((expected * weight).sum() + expected_density.sum(), leaves)
    for a, b in zip(ours, theirs, strict=True):
        bound = 100 * far * unit * (b.abs().max().item() + size)
        torch.testing.assert_close(a, b, rtol=400 * unit, atol=bound)


@pytest.mark.parametrize("kind", KERNELS)
def test_draws_of_one_kernel_follow_their_generator_and_their_law(kind, needs_triton):
    loc = torch.linspace(-1.0, 1.0, 12, device="cuda").view(3, 4)
    law = KERNELS[kind](loc, 0.8)
    first, second, other = (
        law.rsample((200_000,), torch.Generator("cuda").manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    # Left out, a draw of that size is made by the kernel.
    assert torch.equal(first, law.rsample((200_000,), torch.Generator("cuda").manual_seed(1), fused=True))
    plain = law.rsample((200_000,), torch.Generator("cuda").manual_seed(1), fused=False)
    assert torch.equal(
        plain, law.rsample(noise=law.draw_noise((200_000,), torch.Generator("cuda").manual_seed(1)))
    )
    for points in (first, plain):
        for mean, expected in (
            (
                torch.nn.functional.one_hot(points.argmax(-1), law.num_categories).double().mean(0),
                law.discrete().probs,
            ),
            (points.double().mean(0), plain.double().mean(0)),
        ):
            assert (mean - expected).abs().max() < 5 * (0.5 / 200_000**0.5) * 2**0.5


@pytest.mark.parametrize(("kind", "law"), [("gumbel", scipy.stats.gumbel_r), ("gaussian", scipy.stats.norm)])
def test_noise_of_the_kernels_has_its_law(kind, law, needs_triton):
    noise = fused.noise(kind, torch.tensor([2**61 + 7], device="cuda"), 100_000, 10).double().flatten().cpu()
    assert scipy.stats.kstest(noise.numpy(), law.cdf).pvalue > 1e-3
    for tail in (noise > law.isf(1e-4), noise < law.ppf(1e-4)):
        assert abs(tail.sum().item() - 100) < 50


def test_a_divergence_comes_with_the_draw(needs_triton):
    loc = torch.linspace(-1.0, 1.0, 12, device="cuda").view(3, 4).requires_grad_()
    scale = torch.linspace(0.5, 1.5, 12, device="cuda").view(3, 4).requires_grad_()
    prior = torch.zeros(4, device="cuda"), torch.ones(4, device="cuda")
    found = fused.sample(fused.Draw("gaussian", loc, scale, 0.5), (300,), prior=prior)[2]
    laws = torch.distributions.Normal(loc, scale), torch.distributions.Normal(*prior)
    expected = kl_divergence(*laws).sum(-1)
    torch.testing.assert_close(found, expected)
    pairs = (torch.autograd.grad(value.sum(), (loc, scale)) for value in (found, expected))
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_samplers_on_the_device_take_every_form(needs_triton):
    logits = torch.randn(64, 10, 50, device="cuda")
    for tau in (0.5, torch.tensor(0.5), torch.full((64, 1), 0.5, device="cuda")):
        for dim in (-1, 1):
            if dim == 1 and torch.is_tensor(tau) and tau.dim():
                tau = tau.expand(64, 50)
            z = igr.functional.gumbel_softmax(logits, tau, dim=dim, fused=True)
            torch.testing.assert_close(z.sum(dim), torch.ones_like(z.sum(dim)))
            z = igr.functional.invertible_gaussian(logits, 0.7, tau, dim=dim, fused=True)
            torch.testing.assert_close(z.sum(dim), torch.ones_like(z.sum(dim)))
    with pytest.raises(ValueError, match="a temperature that needs a gradient"):
        igr.functional.gumbel_softmax(logits, torch.tensor(0.5, requires_grad=True), fused=True)


@pytest.mark.parametrize("equal", [True, False], ids=["equal", "unequal"])
@pytest.mark.parametrize("size", [1, 2, 9, 63, 1000])
def test_the_exact_law_of_a_kernel_is_that_of_the_cpu(size, equal, needs_triton):
    source = torch.Generator().manual_seed(size)
    loc = 3.0 * torch.randn(700, size, generator=source) - 1.0
    scale = (0.4 + torch.rand(700, 1 if equal else size, generator=source)).expand_as(loc)
    weight = torch.randn(700, size + 1, generator=source)

    def run(device, dtype):
        inputs = [t.to(device, dtype).requires_grad_() for t in (loc, scale)]
        value = maximum_log_probs(*inputs, equal_scales=equal).exp()
        gradients = torch.autograd.grad((value * weight.to(value)).sum(), inputs)
        return [t.detach().double().cpu() for t in (value, *gradients)]

    assert gaussian_law_fused.can_run(loc.cuda(), scale.cuda())
    for ours, theirs in zip(run("cuda", torch.float32), run("cpu", torch.float64), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


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


JOINT = {
    "num_variables": 1,
    "continuous_dim": 4,
    "continuous_capacity": (0.0, 2.0, 20),
    "discrete_capacity": (0.0, 1.0, 20),
    "network": "conv_jointvae",
}
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "drawn": {"binarization": "stochastic"},
    "normal": {"likelihood": "normal"},
    "continuous bernoulli": {"likelihood": "continuous-bernoulli"},
    "gumbel-softmax, sampled KL": {"latent": "gumbel-softmax", "kl": "relaxed", "stick_the_landing": True},
    "straight-through": {"straight_through": True},
    "igr-planar": {"latent": "igr-planar"},
    "igr-sb": {"latent": "igr-sb", "kl": "relaxed", "num_categories": 4},
    "igr-sb-log, exact": {"latent": "igr-sb-log", "num_categories": 4, "num_variables": 4},
    "igr-sb-truncated": {"latent": "igr-sb-truncated", "kl": "relaxed", "num_categories": 30},
    "gaussian": {"latent": "gaussian"},
    "JointVAE": JOINT,
    "conv, gradients": {"network": "conv", "track_gradients": True},
    "dense_relax": {"network": "dense_relax"},
}


CONFIGS: dict[str, RunConfig] = {
    **{name: TrainConfig(**{"network": "dense", **form}) for name, form in FORMS.items()},
    "SOP": SOPConfig(num_units=30, num_samples=5),
    "SOP, planar, straight-through": SOPConfig(num_units=30, latent="igr-planar", straight_through=True),
    "SOP, binary Concrete": SOPConfig(num_units=30, latent="gumbel-softmax", network="nonlinear"),
    **{
        f"{latent}, {component}": DLGMMConfig(
            latent=latent, component=component, continuous_dim=6, concentration=2.0, learning_rate=1e-3
        )
        for latent in MIXTURES
        for component in COMPONENTS
    },
    "dlgmm_conv": DLGMMConfig(network="dlgmm_conv", continuous_dim=6, learning_rate=1e-3),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_run_trains_and_is_evaluated_on_the_device(tmp_path, config):
    config = dataclasses.replace(config, device="cuda", epochs=3, max_images=300)
    loop.train(config, tmp_path / "run")
    first, *_, last = RunFolder(tmp_path / "run").metrics()
    # The objective of a JointVAE is none of its figures.
    if not getattr(config, "is_joint_vae", False):
        assert last["validation_bound"] > first["validation_bound"]
    here, there = (
        evaluate(load_run(tmp_path / "run", device), num_samples=100, max_images=200)
        for device in ("cpu", "cuda")
    )
    for kind, figure in here.bounds.items():
        other = there.bounds[kind]
        assert (figure is None) == (other is None)
        if figure is not None and other is not None:
            # The images are the same; the draws are not, and the error over images is far above theirs.
            assert abs(figure.value - other.value) < figure.standard_error


def figures(path):
    """The numbers of each epoch of a run."""
    return [
        [value for value in line.values() if isinstance(value, float)] for line in RunFolder(path).metrics()
    ]


DOUBLE = TrainConfig(
    device="cuda",
    epochs=3,
    max_images=300,
    batch_size=40,
    precision="float64",
    kl="relaxed",
    network="dense_nonlinear",
)


@pytest.mark.parametrize("latent", ["igr", "gumbel-softmax", "igr-planar"])
def test_a_run_by_a_cuda_graph_is_that_without_one(tmp_path, monkeypatch, latent):
    """A step that could not be captured would warn, and warnings are errors."""
    config = dataclasses.replace(DOUBLE, latent=latent)
    monkeypatch.setattr(passes, "STEPS_BEFORE_FLAT", 3)
    loop.train(config, tmp_path / "graph")
    monkeypatch.setitem(loop.CAPTURES, "cuda", None)
    loop.train(config, tmp_path / "none")
    # The learning rate of a graph is rounded to float32.
    for found, expected in zip(figures(tmp_path / "graph"), figures(tmp_path / "none"), strict=True):
        assert found == pytest.approx(expected, rel=1e-5)


def test_replicas_on_the_device_are_single_runs(tmp_path):
    configs = [
        dataclasses.replace(DOUBLE, seed=seed, temperature=temperature)
        for seed in (0, 1)
        for temperature in (0.2, 0.5)
    ]
    outcomes = train_replicas([(c, tmp_path / f"stacked{i}") for i, c in enumerate(configs)])
    assert all(isinstance(outcome, dict) for outcome in outcomes)
    for index, config in enumerate(configs):
        loop.train(config, tmp_path / f"alone{index}")
        found, expected = (figures(tmp_path / f"{kind}{index}") for kind in ("stacked", "alone"))
        for ours, alone in zip(found, expected, strict=True):
            assert ours == pytest.approx(alone, rel=1e-6)
