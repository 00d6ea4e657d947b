"""PlanarTransform and PlanarFlow: bijections with the log-determinants that autograd finds, and modules."""

import copy
import io
import math
import pickle
import re

import pytest
import torch
from torch import nn
from torch.distributions import (
    AffineTransform,
    ComposeTransform,
    Independent,
    Normal,
    Transform,
    TransformedDistribution,
)

import igr
from cases import generator, tensor, tracing
from igr.transforms import PlanarFlow, PlanarTransform

POINTS = torch.randn(6, 3, 4, dtype=torch.float64, generator=generator("points"))
depths = pytest.mark.parametrize("depth", [1, 2, 4])
batches = pytest.mark.parametrize("batch", [(), (3,)], ids=["shared", "per-variable"])
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def normal(*shape, key="planar", dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=generator(key))


def tensors(depth, size=4, batch=(), spread=1.0):
    """u, w and b of a flow that bends far more than one at the start of its training."""
    shape = (depth, *batch, size)
    return spread * normal(*shape, key="u"), spread * normal(*shape, key="w"), normal(depth, *batch, key="b")


def layer(inner, length=1.0, size=4, batch=()):
    """A layer with the given w.u and |w|."""
    u, w = normal(*batch, size, key="u"), normal(*batch, size, key="w")
    w = w / w.norm(dim=-1, keepdim=True)
    u = u + (inner / length - (u * w).sum(-1, keepdim=True)) * w
    return PlanarTransform.from_tensors(u, length * w, normal(*batch, key="b"))


def flow(depth=3, batch=None, **settings):
    """A flow that is a module, away from its start."""
    made = PlanarFlow(5, depth, batch, dtype=torch.float64, generator=generator("flow"), **settings)
    with torch.no_grad():
        for index, parameter in enumerate(made.parameters()):
            parameter += normal(*parameter.shape, key=index)
    return made


def slope(transform, x):
    """log|det| of the Jacobian at each point, by autograd."""
    variables = [slice(None)] if not transform.batch_shape else range(x.shape[-2])
    if transform.batch_shape:

        def one(row):
            jacobian = torch.func.jacrev(transform)(row)
            return torch.stack([torch.linalg.slogdet(jacobian[v, :, v]).logabsdet for v in variables])

        return torch.func.vmap(one)(x)
    return torch.linalg.slogdet(torch.func.vmap(torch.func.vmap(torch.func.jacrev(transform)))(x)).logabsdet


def assert_log_det(transform, x, tolerance=1e-9):
    y, log_det = transform.call_and_log_det(x)
    assert torch.equal(y, transform(x))
    assert torch.equal(log_det, transform.log_abs_det_jacobian(x, y))
    torch.testing.assert_close(log_det, slope(transform, x), rtol=0, atol=tolerance)


@depths
@batches
def test_log_determinant_is_that_of_the_jacobian(depth, batch):
    assert_log_det(PlanarFlow.from_tensors(*tensors(depth, batch=batch)), POINTS)
    assert_log_det(flow(depth, batch[0] if batch else None), POINTS)


@batches
@pytest.mark.parametrize("inner", [-20.0, -2.0, 0.0, 20.0])
def test_log_determinant_for_every_slope_at_the_knee(inner, batch):
    assert_log_det(layer(inner, batch=batch), POINTS)


@pytest.mark.parametrize("length", [0.0, 1e-12, 1e-6, 1e-3, 0.02])
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_log_determinant_as_w_goes_to_zero(size, length):
    u, w = size * normal(4, key="u"), normal(4, key="w")
    for sign in (-1.0, 1.0):
        transform = PlanarTransform.from_tensors(sign * u, length * w / w.norm(), normal(key="b"))
        assert_log_det(transform, POINTS)
        torch.testing.assert_close(transform.inv(transform(POINTS)), POINTS, rtol=0, atol=1e-11)


@dtypes
@pytest.mark.parametrize("inner", [-80.0, -20.0, 0.0, 20.0])
def test_log_determinant_at_the_knee_does_not_vanish(inner, dtype):
    """There it is log softplus(w.u), which 1 + w.u^ would round to -inf in float32."""
    u, w, b = (torch.tensor(v, dtype=dtype) for v in ([inner, 0.3], [1.0, 0.0], 0.5))
    x = torch.tensor([-0.5, 7.0], dtype=dtype)
    transform = PlanarTransform.from_tensors(u, w, b)
    expected = math.log(math.log1p(math.exp(inner)))
    assert transform.log_abs_det_jacobian(x, transform(x)).item() == pytest.approx(expected, rel=1e-6)


def test_log_determinant_in_float32_is_that_in_float64():
    """The same points and parameters; far from the knee 1 - tanh^2 would be nothing but rounding."""
    parameters = [value.float() for value in tensors(1, batch=(500,), spread=2.5)]
    x = 3.0 * normal(40, 500, 4, dtype=torch.float32)
    found = PlanarFlow.from_tensors(*parameters).log_abs_det_jacobian(x, x)
    exact = PlanarFlow.from_tensors(*(value.double() for value in parameters))
    expected = exact.log_abs_det_jacobian(x.double(), x.double())
    inner = (parameters[0] * parameters[1]).sum(-1)
    assert inner.min() < -25
    assert inner.max() > 25
    # What is left is the rounding of w.x + b, over which the slope varies by its square root.
    error = (found - expected).abs() * torch.exp(0.5 * expected.clamp(max=0.0))
    assert error.max() < 3e-5


@depths
@batches
@dtypes
def test_round_trips(depth, batch, dtype):
    """Parameters of a third: w.u of at least -2 or so."""
    for reach in (0.1, 1.0, 30.0):
        transform = PlanarFlow.from_tensors(*(v.to(dtype) for v in tensors(depth, batch=batch, spread=0.4)))
        x = (reach * POINTS).to(dtype)
        y = transform(x)
        limit = 1e-5 if dtype == torch.float32 else 1e-13
        assert ((transform.inv(y) - x).abs() < limit * (1.0 + x.abs().amax(-1, keepdim=True))).all()
        assert (
            (transform(transform.inv(x)) - x).abs() < limit * (1.0 + x.abs().amax(-1, keepdim=True))
        ).all()


@pytest.mark.parametrize(
    ("inner", "single", "double"), [(-2.0, 1e-5, 2e-14), (-5.0, 2e-4, 4e-13), (-20.0, 4e-2, 1e-6)]
)
def test_what_the_way_back_loses_is_what_the_docstring_says(inner, single, double):
    """The rounding of y, over the slope at the knee; y itself always comes back."""
    for dtype, limit in ((torch.float32, single), (torch.float64, double)):
        parts = layer(inner, batch=(2000,), size=9)._layers()[0].to(dtype)
        transform = PlanarTransform.from_tensors(*parts)
        x = normal(10, 2000, 9, dtype=dtype)
        y = transform(x)
        back = transform.inv(y)
        assert ((back - x).abs() / (1.0 + x.abs().amax(-1, keepdim=True))).max() < limit
        lost = (transform(back) - y).abs() / (1.0 + y.abs().amax(-1, keepdim=True))
        assert lost.max() < 100 * torch.finfo(dtype).eps


def test_invertible_whatever_the_parameters():
    """w.f(x) increases along w, for parameters of hundreds and for the tiniest w."""
    for spread in (1e-8, 1e-3, 1.0, 10.0, 300.0):
        u = 300.0 * normal(400, 3, key="u")
        w = spread * normal(400, 3, key="w")
        transform = PlanarTransform.from_tensors(u, w, normal(400, key="b"))
        inner = torch.linspace(-6.0, 6.0, 201, dtype=torch.float64).view(-1, 1, 1)
        x = inner * w / (w * w).sum(-1, keepdim=True)
        y, log_det = transform.call_and_log_det(x)
        risen = (y * w).sum(-1).diff(dim=0)
        # All that a flat part of 1e-30 leaves is the rounding of the two sides.
        rounding = 1e-14 * (1.0 + (y.abs() * w.abs()).sum(-1).amax(0))
        assert (risen > -rounding).all()
        assert torch.isfinite(log_det).all()


@depths
@batches
def test_derivatives_of_the_inverse_to_second_order(depth, batch):
    parameters = tensors(depth, size=2, batch=batch, spread=0.7)

    def inverse(y, *tensors):
        return PlanarFlow.from_tensors(*tensors).inv(y)

    leaves = [v.clone().requires_grad_() for v in (POINTS[:1, :, :2], *parameters)]
    assert torch.autograd.gradcheck(inverse, leaves)
    if depth < 4:
        assert torch.autograd.gradgradcheck(inverse, leaves)


@pytest.mark.parametrize("length", [0.0, 1e-3, 1.0])
def test_derivatives_of_points_and_log_determinants_to_second_order(length):
    u, b, x = normal(4, key="u"), normal(key="b"), POINTS[0, :2]
    w = length * normal(4, key="w")

    def both(x, *tensors):
        return PlanarTransform.from_tensors(*tensors).call_and_log_det(x)

    # A short w has derivatives of thousands.
    leaves = [v.clone().requires_grad_() for v in (x, u, w, b)]
    assert torch.autograd.gradcheck(both, leaves, atol=1e-4, rtol=1e-4)
    assert torch.autograd.gradgradcheck(both, leaves, atol=1e-3, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")  # torch's own import
def test_inverse_of_the_gradient_is_the_gradient_of_the_inverse():
    transform = flow()
    x = POINTS[0, 0]
    there = torch.func.jacrev(transform)(x)
    back = torch.func.jacrev(transform.inv)(transform(x).detach())
    torch.testing.assert_close(back @ there, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-10)
    for function in (transform, transform.inv):
        forward_mode = torch.func.jacfwd(function)(x)
        torch.testing.assert_close(forward_mode, torch.func.jacrev(function)(x))


def everything(transform, x):
    y, log_det = transform.call_and_log_det(x)
    return {
        "forward": transform(x),
        "log_det": log_det,
        "inverse": transform.inv(x),
        "round trip": transform.inv(y),
        "inverse log_det": transform.inv.log_abs_det_jacobian(y, x),
    }


def assert_same(found, expected, index=...):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value[index], expected[name], rtol=1e-10, atol=1e-10)


@batches
def test_vmap_over_points(batch):
    transform = flow(batch=batch[0] if batch else None)
    assert_same(torch.func.vmap(lambda x: everything(transform, x))(POINTS), everything(transform, POINTS))


def test_vmap_over_variables_is_the_batch():
    parameters = tensors(2, batch=(3,))
    mapped = torch.func.vmap(
        lambda u, w, b, x: everything(PlanarFlow.from_tensors(u, w, b), x), in_dims=(1, 1, 1, 1), out_dims=1
    )(*parameters, POINTS)
    assert_same(mapped, everything(PlanarFlow.from_tensors(*parameters), POINTS))


def test_stacked_modules_are_their_replicas():
    replicas = [PlanarFlow(5, 2, 3, dtype=torch.float64, generator=generator(i)) for i in range(3)]
    parameters, buffers = torch.func.stack_module_state(replicas)

    def loss(parameters, buffers, x):
        return torch.func.functional_call(replicas[0], (parameters, buffers), (x,)).square().sum()

    stacked = torch.func.vmap(torch.func.grad(loss), in_dims=(0, 0, None))(parameters, buffers, POINTS)
    for index, replica in enumerate(replicas):
        own = torch.autograd.grad(replica(POINTS).square().sum(), list(replica.parameters()))
        for name, expected in zip(dict(replica.named_parameters()), own, strict=True):
            torch.testing.assert_close(stacked[name][index], expected, rtol=1e-10, atol=1e-10)


def given(x, u, w, b):
    """There and back through a flow that is built where it is used."""
    transform = PlanarFlow.from_tensors(u, w, b)
    y, log_det = transform.call_and_log_det(x)
    return y, log_det, transform.inv(y + 0.1)


@tracing
def test_compile_in_one_graph_forward_and_backward():
    torch.compiler.reset()
    module = PlanarTransform(5, 3, dtype=torch.float64, generator=generator("start"))

    def held(x, *parameters):
        return module(x), module.inv(x)

    leaves = [v.clone().requires_grad_() for v in (POINTS, *tensors(1))]
    for function, inputs in ((given, leaves), (held, [leaves[0], *module.parameters()])):
        results = []
        for run in (function, torch.compile(function, fullgraph=True, backend="aot_eager")):
            values = run(*inputs)
            total = sum(torch.tanh(value).sum() for value in values)
            results.append((*values, *torch.autograd.grad(total, inputs)))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


class Given(nn.Module):
    """A module that builds its flow anew from tensors at every call."""

    def __init__(self):
        super().__init__()
        self.u, self.w, self.b = map(nn.Parameter, tensors(1))

    def forward(self, x):
        return given(x, self.u, self.w, self.b)


class Held(nn.Module):
    """A module that holds its flow."""

    def __init__(self):
        super().__init__()
        self.flow = flow(2, 3)

    def forward(self, x):
        return self.flow(x), self.flow.log_abs_det_jacobian(x, x), self.flow.inv(x)


@tracing
@pytest.mark.parametrize("kind", [Given, Held])
def test_export_gives_the_same_numbers(kind):
    module = kind()
    exported = torch.export.export(module, (POINTS,)).module()
    other = POINTS.flip(0) + 0.1
    for ours, theirs in zip(exported(other), module(other), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_parameters_are_those_of_the_module_alone():
    transform = flow(3)
    names = [f"layers.{i}.{name}" for i in range(3) for name in ("u", "w", "b")]
    assert list(transform.state_dict()) == [name for name, _ in transform.named_parameters()] == names
    assert isinstance(transform, nn.Module)
    assert isinstance(transform, Transform)
    outer = nn.ModuleDict({"flow": transform})
    assert list(outer.state_dict()) == [f"flow.{name}" for name in names]
    assert not hasattr(ComposeTransform(list(transform.layers)), "parameters")


def test_training_moves_every_parameter_and_fits_a_law():
    """A bent Gaussian: with the mean and scale of each coordinate alone the loss stays above 2.8."""
    transform = PlanarFlow(3, 4, generator=generator("start"))
    law = TransformedDistribution(Independent(Normal(torch.zeros(2), 1.0), 1), [transform])
    noise = normal(500, 2, key="data", dtype=torch.float32)
    data = torch.stack([noise[:, 0], 0.4 * noise[:, 1] + 2.0 * torch.tanh(2.0 * noise[:, 0])], -1)
    before = copy.deepcopy(transform.state_dict())
    optimizer = torch.optim.Adam(transform.parameters(), lr=0.05)
    losses = []
    for _ in range(120):
        loss = -law.log_prob(data).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(not torch.equal(before[name], value) for name, value in transform.state_dict().items())
    assert losses[0] > 3.2
    assert losses[-1] < 2.6


def test_state_goes_from_one_module_to_another():
    source, target = flow(2, 3), PlanarFlow(5, 2, 3, dtype=torch.float64)
    assert not torch.equal(source(POINTS), target(POINTS))
    buffer = io.BytesIO()
    torch.save(source.state_dict(), buffer)
    buffer.seek(0)
    target.load_state_dict(torch.load(buffer, weights_only=True))
    assert_same(everything(target, POINTS), everything(source, POINTS))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["copy", "pickle"]
)
def test_copies_are_alike_and_independent(copied):
    original = flow()
    x = original.inv(original(POINTS))  # with an inverse and graphs about, which a copy must not carry
    other = copied(original)
    assert_same(everything(other, x), everything(original, x))
    assert other.inv.inv is other
    assert other != original
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    assert not torch.equal(other(x), original(x))


def test_dtype_is_that_of_the_points():
    single = PlanarFlow(5, generator=generator("start"))
    x = POINTS.float()
    expected = single(x)
    double = copy.deepcopy(single).double()
    assert {p.dtype for p in double.parameters()} == {torch.float64}
    assert double(x).dtype == torch.float32
    torch.testing.assert_close(double(POINTS).float(), expected)
    assert single(POINTS).dtype == single.inv(POINTS).dtype == torch.float64
    half = single(x.bfloat16())
    assert (
        half.dtype
        == single.inv(half).dtype
        == single.log_abs_det_jacobian(half, half).dtype
        == torch.bfloat16
    )
    assert torch.equal(half, single(x.bfloat16().float()).bfloat16())  # float32 inside


def test_identity_is_equality():
    one, other = PlanarTransform(3), PlanarTransform(3)
    assert one == one
    assert one != other
    assert len({one, other, one}) == 2
    assert one.inv.inv is one
    assert one.inv == one.inv
    assert one != AffineTransform(0.0, 1.0)
    given = PlanarTransform.from_tensors(one.u, one.w, one.b)
    assert given != one
    assert len({given, one}) == 2


def test_hooks_of_modules_run():
    transform = PlanarFlow(3, 2)
    seen = []
    transform.register_forward_hook(lambda module, args, output: seen.append(type(module)))
    transform.layers[1].register_forward_hook(lambda module, args, output: seen.append(type(module)))
    transform(torch.zeros(2))
    assert seen == [PlanarTransform, PlanarFlow]


def test_shapes():
    transform = PlanarFlow(3, 2, 5)
    assert (transform.num_categories, transform.batch_shape) == (3, (5,))
    assert transform.forward_shape((7, 5, 2)) == transform.inverse_shape((7, 5, 2)) == (7, 5, 2)
    assert (transform.domain.event_dim, transform.codomain.event_dim, transform.bijective) == (1, 1, True)
    x = torch.zeros(7, 5, 2)
    assert transform(x).shape == (7, 5, 2)
    assert transform.log_abs_det_jacobian(x, x).shape == (7, 5)
    # One value for all variables has as many pre-images.
    y = torch.zeros(7, 1, 2)
    torch.testing.assert_close(transform.inv(y), transform.inv(y.expand(7, 5, 2)))
    assert repr(PlanarTransform(3)) == "PlanarTransform(num_categories=3)"
    assert "2 x PlanarTransform(num_categories=3, batch_shape=(5,))" in repr(transform)
    given = PlanarFlow.from_tensors(*tensors(2))
    assert repr(given) == "PlanarFlow.from_tensors(num_categories=5, num_layers=2)"


def test_no_cache_is_kept():
    """A kept point would not know that the parameters moved."""
    transform = flow()
    chain = ComposeTransform([AffineTransform(0.0, 2.0), transform], cache_size=1)
    y = transform(POINTS)
    assert transform.with_cache(1) is transform
    before = chain(POINTS)
    torch.testing.assert_close(chain.inv(before), POINTS)
    with torch.no_grad():
        next(transform.parameters()).add_(1.0)
    assert not torch.equal(transform(POINTS), y)
    assert not torch.allclose(transform.inv(y), POINTS)


@pytest.mark.parametrize("num_categories", [2, 10])
@pytest.mark.parametrize("num_variables", [None, 4])
def test_start_is_nearly_the_identity_and_seeded(num_categories, num_variables):
    def made():
        return PlanarTransform(num_categories, num_variables, generator=generator("start"))

    transform = made()
    assert all(torch.equal(a, b) for a, b in zip(made().parameters(), transform.parameters(), strict=True))
    other = PlanarTransform(num_categories, num_variables, generator=generator("another"))
    assert not torch.equal(transform.b, other.b)
    torch.testing.assert_close(transform.w.norm(dim=-1), torch.ones(transform.batch_shape))
    many = PlanarTransform(num_categories, 2000, generator=generator("many"))
    x = 100.0 * normal(2000, num_categories - 1, dtype=torch.float32)
    moved = (many(x) - x).norm(dim=-1)
    assert 0.03 < moved.mean() < 0.12
    assert moved.max() < 0.5
    many.reset_parameters(generator("start"))
    assert not torch.equal(many(x) - x, moved)


def test_density_of_one_variable_integrates_to_one():
    y = torch.linspace(-25.0, 25.0, 20_001, dtype=torch.float64).unsqueeze(-1)
    base = Independent(Normal(torch.zeros(1, dtype=torch.float64), 1.0), 1)
    for depth in (1, 3):
        transform = PlanarFlow.from_tensors(*tensors(depth, size=1))
        density = TransformedDistribution(base, [transform]).log_prob(y).exp()
        assert torch.trapezoid(density, y.squeeze(-1)).item() == pytest.approx(1.0, abs=1e-6)


def test_density_of_two_variables_integrates_to_one():
    axis = torch.linspace(-11.0, 11.0, 221, dtype=torch.float64)
    y = torch.cartesian_prod(axis, axis)
    base = Independent(Normal(torch.zeros(2, dtype=torch.float64), 1.0), 1)
    for depth in (1, 2):
        transform = PlanarFlow.from_tensors(*tensors(depth, size=2, spread=0.8))
        density = TransformedDistribution(base, [transform]).log_prob(y).exp()
        step = axis[1] - axis[0]
        assert (density.sum() * step * step).item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("temperature", [1e-3, 0.5, tensor(0.2, 0.5, 1.0)], ids=["cold", "float", "tensor"])
@pytest.mark.parametrize("variables", [None, 3])
def test_inside_an_invertible_gaussian(variables, temperature):
    """The density from the inverse is that from the pre-image."""
    transform = flow(2, variables)
    loc, scale = normal(2, 3, 4, key="loc"), normal(2, 3, 4, key="scale").exp()
    law = igr.InvertibleGaussian(loc, scale, temperature, transform=transform)
    noise = law.draw_noise((5,), generator=generator("noise"))
    log_z, expected = law.rsample_log(noise=noise), law.rsample_and_log_prob(noise=noise)[1]
    assert expected.shape == (5, 2, 3)
    torch.testing.assert_close(law.log_prob_of_log(log_z), expected, rtol=1e-8, atol=1e-8)
    gradients = torch.autograd.grad(law.log_prob_of_log(log_z.detach()).sum(), list(transform.parameters()))
    assert all(torch.isfinite(value).all() and value.abs().max() > 0 for value in gradients)
    # One value for all laws of the batch.
    shared = law.log_prob_of_log(log_z[0, 0, 0])
    torch.testing.assert_close(shared, law.log_prob_of_log(log_z[0, 0, 0].expand(2, 3, 5)))


def test_laws_that_share_a_flow_have_the_divergence_of_their_gaussians():
    transform, loc = flow(2), normal(3, 4)
    p, q = (igr.InvertibleGaussian(loc + shift, 1.0, 0.5, transform=transform) for shift in (0.0, 0.3))
    expected = torch.full((3,), 4 * 0.5 * 0.3**2, dtype=torch.float64)
    torch.testing.assert_close(torch.distributions.kl_divergence(p, q), expected)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_neither_hangs_nor_raises(value):
    transform = flow()
    x = POINTS.clone()
    x[0, 0, 0] = value
    for result in everything(transform, x).values():
        assert torch.isfinite(result[1:]).all()
        assert not torch.isfinite(result[0, 0]).all() or value != value or result.dim() == 2


U, W, B = tensors(2, size=2, batch=(3,))
REFUSALS = {
    "categories": (
        lambda: PlanarTransform(1),
        ("PlanarTransform: expected num_categories of at least 2", "got 1", "K - 1"),
    ),
    "flow-categories": (
        lambda: PlanarFlow(0),
        ("PlanarFlow: expected num_categories of at least 2", "got 0"),
    ),
    "layers": (lambda: PlanarFlow(3, 0), ("PlanarFlow: expected num_layers of at least 1", "got 0", "leave")),
    "variables": (
        lambda: PlanarFlow(3, 2, 0),
        ("PlanarFlow: expected num_variables of at least 1, or None", "got 0", "share"),
    ),
    "numbers": (
        lambda: PlanarTransform(3)(torch.zeros(5, 3)),
        (
            "PlanarTransform: expected points of a shape that ends with K - 1 = 2",
            "num_categories=3",
            "got (5, 3)",
        ),
    ),
    "numbers-back": (
        lambda: PlanarFlow(3).inv(torch.zeros(3)),
        ("PlanarFlow: expected points of a shape that ends with K - 1 = 2", "got (3,)"),
    ),
    "scalar": (lambda: PlanarFlow(2)(torch.tensor(0.0)), ("expected points of a shape", "got ()")),
    "shape": (
        lambda: PlanarFlow(3).forward_shape((5, 4)),
        ("PlanarFlow: expected a shape that ends with K - 1 = 2", "got (5, 4)"),
    ),
    "batch": (
        lambda: PlanarFlow(3, num_variables=4)(torch.zeros(5, 2)),
        ("PlanarFlow: expected points of shape (*, 4, 2)", "got (5, 2)", "expand"),
    ),
    "batch-log-det": (
        lambda: PlanarFlow(3, num_variables=4).log_abs_det_jacobian(torch.zeros(5, 2), torch.zeros(5, 2)),
        ("PlanarFlow: expected points of shape (*, 4, 2)", "got (5, 2)"),
    ),
    "no-batch": (
        lambda: PlanarTransform(3, 4)(torch.zeros(2)),
        ("PlanarTransform: expected points of shape (*, 4, 2)", "got (2,)"),
    ),
    "batch-back": (
        lambda: PlanarTransform(3, 4).inv(torch.zeros(5, 2)),
        ("PlanarTransform: expected points of shape (*, 4, 2)", "got (5, 2)"),
    ),
    "law-without-the-variables": (
        lambda: igr.InvertibleGaussian(torch.zeros(2), 1.0, 0.5, transform=PlanarFlow(3, 2, 4)).rsample(),
        ("PlanarFlow: expected points of shape (*, 4, 2)", "got (2,)"),
    ),
    "given-numbers": (
        lambda: PlanarTransform.from_tensors(torch.zeros(3), torch.zeros(2), torch.zeros(())),
        ("PlanarTransform.from_tensors: expected u and w of shape (*, K - 1)", "got (3,), (2,) and ()"),
    ),
    "given-layers": (
        lambda: PlanarFlow.from_tensors(U, W[:1], B),
        ("PlanarFlow.from_tensors: expected u, w and b of the same L layers", "got 2, 1 and 2"),
    ),
    "given-no-layers": (
        lambda: PlanarFlow.from_tensors(U[:0], W[:0], B[:0]),
        ("PlanarFlow.from_tensors: expected u, w and b of the same L layers, at least one", "got 0, 0 and 0"),
    ),
    "given-flat": (
        lambda: PlanarFlow.from_tensors(torch.zeros(2), torch.zeros(2), torch.zeros(())),
        ("PlanarFlow.from_tensors: expected u and w of shape (L, *, K - 1)", "got (2,), (2,) and ()"),
    ),
    "given-batch": (
        lambda: PlanarFlow.from_tensors(U, W, torch.zeros(2, 4)),
        ("PlanarFlow.from_tensors: expected shapes that broadcast", "u (3,), w (3,), b (4,)"),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_are_one_sentence(name):
    call, parts = REFUSALS[name]
    with pytest.raises(ValueError, match="expected") as error:
        call()
    text, position = str(error.value), 0
    for part in parts:
        assert part in text[position:], text
        position = text.index(part, position) + len(part)
    assert text.endswith(".")
    assert not re.search(r"\.\s+[A-Z]|\n", text), text


def test_points_must_be_floating_point_tensors():
    with pytest.raises(
        TypeError, match=r"PlanarTransform: expected points of a floating-point dtype; got torch\.int64"
    ):
        PlanarTransform(3)(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"PlanarFlow\.from_tensors: expected u to be a tensor; got list"):
        PlanarFlow.from_tensors([1.0], W, B)
