"""Laws under torch's machinery: expand, pickle, compile, vmap, torch.func, export. All in the noise form."""

import pickle

import pytest
import torch
from torch.distributions import ComposeTransform

import igr
from cases import CASES, NUMBERS, Mix, available, each, gaussian, generator, gumbel, has_exact_law, tracing


def everything(law, noise):
    """All that a law gives from noise, by name; one call, so that one trace covers every method."""
    log_z = law.rsample_log(noise=noise)
    z, log_prob = law.rsample_and_log_prob(noise=noise)
    results = {
        "rsample": law.rsample(noise=noise),
        "rsample_log": log_z,
        "drawn": z,
        "drawn log_prob": log_prob,
        "straight_through": law.straight_through(noise),
        "log_prob": law.log_prob(z),
        "log_prob_of_log": law.log_prob_of_log(log_z),
    }
    if has_exact_law(law):
        exact = law.discrete()
        results["discrete"] = exact.log_probs
        uniform = igr.DiscreteLaw(torch.zeros_like(exact.log_probs))
        results["discrete kl"] = torch.distributions.kl_divergence(exact, uniform)
    if isinstance(law, igr.InvertibleGaussian):
        shifted = igr.InvertibleGaussian(
            law.loc + 0.1, law.scale, law.temperature, law.transform, law.delta, mask=law.mask
        )
        results["kl"] = torch.distributions.kl_divergence(law, shifted)
    return results


def summed(law, noise):
    """One number that depends on every result; z enters by its logarithm too, so nothing is flat."""
    total = 0.0
    for index, value in enumerate(everything(law, noise).values()):
        total = total + torch.tanh(value * (0.1 + 0.01 * index)).sum()
    return total


def assert_same(found, expected, rtol=1e-9, atol=1e-9):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(
            value, expected[name], rtol=rtol, atol=atol, msg=lambda text, n=name: f"{n}: {text}"
        )


# Of each kind of law the graphs that hold the others: batches, temperatures, masks, deltas, transforms.
EVERY_DAY = {
    "gs-K10-batch2-temperatures",
    "gs-K4-masked",
    "igr-K10-batch2-temperatures",
    "igr-K3-tensor-delta",
    "igr-K4-masked",
    "igr-K3-affine",
    "sb-length-K4-delta",
    "sb-log-K2-delta",
    "planar-K2",
}


def is_not_for_every_day(case):
    return not any(case is CASES[name] for name in EVERY_DAY)


def is_long_to_compile(case):
    """One case of each kind of graph does for every day: other values make no other graph."""
    if is_not_for_every_day(case):
        return True
    if not (case.has_transform or case.is_masked):
        law = case.law()
        # A delta beside a temperature stands for either alone.
        return case.is_cold or not (law.batch_shape or "delta" in case.parameters)
    if case.is_masked:
        return case.settings.get("temperature") != 0.7
    if "w" in case.parameters:  # tests/transforms compiles a flow
        return True
    return case.has_transform and case.has_exact_law and (case.is_cold or case.law().num_categories > 2)


def noise_of(case, sample_shape=(2,), dtype=torch.float64):
    return case.law(dtype).draw_noise(sample_shape, generator=generator(0))


@each()
def test_expand_is_the_same_law_more_often(case):
    law = case.law()
    expanded = law.expand((4, *law.batch_shape))
    assert expanded.batch_shape == (4, *law.batch_shape)
    noise = noise_of(case, (4,))
    found, expected = everything(expanded, noise), everything(law, noise)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name].expand_as(value), rtol=1e-12, atol=1e-12)
    assert everything(expanded, expanded.draw_noise((2,)))["rsample"].shape[:2] == (2, 4)


@each()
def test_pickle_keeps_the_law(case):
    law = case.law()
    noise = noise_of(case)
    again = pickle.loads(pickle.dumps(law))
    assert repr(again) == repr(law)
    if not case.has_transform:  # the divergence asks for one transform object, and a copy is another one
        assert_same(everything(again, noise), everything(law, noise), rtol=0, atol=0)
    torch.testing.assert_close(again.rsample_log(noise=noise), law.rsample_log(noise=noise), rtol=0, atol=0)


@tracing
@each(slow=is_long_to_compile)
def test_compile_in_one_graph_forward_and_backward(case):
    """The law is built from its tensors inside the compiled function, as a model does.

    Of masked laws one of each kind: a trace takes seconds.
    """
    noise = noise_of(case)
    masks = {"mask": case.settings["mask"]} if case.is_masked else {}
    torch.compiler.reset()

    def loss(tensors, masks, noise):
        law = case.law(**tensors, **masks)
        return summed(law, noise), everything(law, noise)

    def run(function):
        tensors = {name: value.requires_grad_() for name, value in case.tensors().items()}
        total, results = function(tensors, masks, noise)
        return results, dict(zip(tensors, torch.autograd.grad(total, list(tensors.values())), strict=True))

    eager_results, eager_gradients = run(loss)
    results, gradients = run(torch.compile(loss, fullgraph=True, backend="aot_eager"))
    assert_same(results, eager_results)
    assert_same(gradients, eager_gradients, rtol=1e-7, atol=1e-9)


@tracing
@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")  # Inductor's own imports
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(gumbel(5, (4,), temperature=torch.tensor(0.4)), id="gs", marks=pytest.mark.slow),
        pytest.param(gaussian(5, (4,), temperature=0.4, delta=0.5), id="igr"),
    ],
)
def test_inductor_smoke(case):
    noise = noise_of(case, dtype=torch.float32)
    tensors = case.tensors(torch.float32)

    def draw(tensors, noise):
        return case.law(torch.float32, **tensors).rsample_and_log_prob(noise=noise)

    leaves = [value.requires_grad_() for value in tensors.values()]
    expected = draw(tensors, noise)
    found = torch.compile(draw, fullgraph=True)(tensors, noise)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(
        *(torch.autograd.grad(sum(t.sum() for t in pair), leaves) for pair in (found, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@each()
def test_vmap_over_the_noise(case):
    law = case.law()
    noise = noise_of(case, (5, 2))
    stacked = torch.func.vmap(lambda e: everything(law, e))(noise)
    for index in range(5):
        alone = everything(law, noise[index])
        assert_same({name: value[index] for name, value in stacked.items()}, alone)


@each(where=lambda case: bool(case.law().batch_shape))
def test_vmap_over_the_parameters(case):
    """The first dimension of the batch, mapped away: how replicas of a model are trained at once."""
    law, tensors = case.law(), case.batched()
    noise = law.draw_noise(generator=generator(0))
    mapped = torch.func.vmap(lambda t, e: everything(case.law(**t), e))(tensors, noise)
    assert_same(mapped, everything(law, noise))


@each()
def test_functional_gradients_are_those_of_autograd(case):
    noise = noise_of(case)
    tensors = case.tensors()
    functional = torch.func.grad(lambda t: summed(case.law(**t), noise))(tensors)
    leaves = {name: value.requires_grad_() for name, value in case.tensors().items()}
    expected = torch.autograd.grad(summed(case.law(**leaves), noise), list(leaves.values()))
    assert_same(functional, dict(zip(leaves, expected, strict=True)), rtol=1e-8, atol=1e-9)


@each(where=lambda case: case.has_exact_law and not case.is_cold)
def test_derivatives_of_the_exact_law_to_second_order(case):
    tensors = case.tensors()

    def entropy(t):
        return case.law(**t).discrete().entropy().sum()

    first = next(iter(tensors))
    jacobian = torch.func.jacrev(entropy)(tensors)[first]
    leaf = tensors[first].clone().requires_grad_()
    (slope,) = torch.autograd.grad(entropy({**tensors, first: leaf}), leaf, create_graph=True)
    torch.testing.assert_close(jacobian, slope, rtol=1e-8, atol=1e-10)
    (curvature,) = torch.autograd.grad(slope.square().sum(), leaf)
    # By differences, along one direction.
    direction = torch.randn(leaf.shape, dtype=torch.float64, generator=generator("direction"))
    slopes = []
    for step in (1e-5, -1e-5):
        moved = (tensors[first] + step * direction).requires_grad_()
        (at,) = torch.autograd.grad(entropy({**tensors, first: moved}), moved)
        slopes.append(at.square().sum())
    numeric = (slopes[0] - slopes[1]) / 2e-5
    torch.testing.assert_close((curvature * direction).sum(), numeric, rtol=1e-5, atol=1e-7)


def test_a_stacked_model_trains_like_its_replicas():
    """functional_call, vmap and grad together, as several runs become one."""
    replicas = [torch.nn.Linear(3, 4, dtype=torch.float64) for _ in range(3)]
    parameters, _ = torch.func.stack_module_state(replicas)
    x = torch.randn(7, 3, dtype=torch.float64, generator=generator("x"))
    noise = torch.randn(3, 7, 4, dtype=torch.float64, generator=generator("e"))
    temperatures = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)

    def loss(parameters, noise, temperature):
        loc = torch.func.functional_call(replicas[0], parameters, (x,))
        law = igr.InvertibleGaussian(loc, 1.0, temperature, validate_args=False)
        return law.rsample(noise=noise)[..., 0].sum() + law.discrete().entropy().sum()

    stacked = torch.func.vmap(torch.func.grad(loss))(parameters, noise, temperatures)
    for index in range(3):
        own = {name: value[index] for name, value in parameters.items()}
        alone = torch.func.grad(loss)(own, noise[index], temperatures[index])
        assert_same({name: value[index] for name, value in stacked.items()}, alone)


class Draw(torch.nn.Module):
    """A module of the kind that is exported for serving."""

    def __init__(self, case):
        super().__init__()
        self.case = case
        for name, value in case.tensors().items():
            self.register_buffer(name, value)

    def forward(self, noise):
        law = self.case.law(
            **{name: getattr(self, name) for name in self.case.parameters}, validate_args=False
        )
        return everything(law, noise)


@tracing
@each(
    where=lambda case: not isinstance(case.settings.get("transform"), Mix | ComposeTransform),
    slow=is_not_for_every_day,
)
def test_export_gives_the_same_numbers(case):
    model, noise = Draw(case), noise_of(case)
    exported = torch.export.export(model, (noise,)).module()
    other = noise.flip(0)
    assert_same(exported(other), model(other))


@each(where=lambda case: not set(NUMBERS) & set(case.parameters))
def test_gradients_flow_to_a_temperature_that_is_made_a_tensor(case):
    temperature = torch.tensor(case.settings["temperature"], dtype=torch.float64, requires_grad=True)
    law = case.law(temperature=temperature)
    noise = noise_of(case)
    (slope,) = torch.autograd.grad(available(law, law.rsample_log(noise=noise)).sum(), temperature)
    expected = []
    for step in (1e-6, -1e-6):
        moved = case.law(temperature=case.settings["temperature"] * (1.0 + step))
        expected.append(available(moved, moved.rsample_log(noise=noise)).sum())
    numeric = (expected[0] - expected[1]) / (2e-6 * case.settings["temperature"])
    torch.testing.assert_close(slope, numeric, rtol=1e-6, atol=1e-6)
