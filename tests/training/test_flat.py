"""Functions of tensors as the operations that they come to."""

import pytest
import torch
from torch import Tensor

from igr.training.flat import NotFlat, flattened


def gradient(weight: Tensor, x: Tensor) -> list[Tensor]:
    """Of something with constants, views, and a transpose of a transpose in its backward pass."""
    weight = weight.detach().requires_grad_()
    half = torch.full_like(x, 0.5).exp().unsqueeze(0).expand(2, *x.shape)
    loss = (torch.tanh(x @ weight.t()).unsqueeze(-1).sum() * half * x).mean()
    (found,) = torch.autograd.grad(loss, [weight])
    return [found, loss.detach()]


def test_gradients_are_the_same_bits():
    examples = torch.randn(3, 5), torch.randn(4, 5)
    flat = flattened(gradient, *examples)
    for _ in range(3):
        weight, x = torch.randn(3, 5), torch.randn(4, 5)
        for one, other in zip(flat(weight, x), gradient(weight, x), strict=True):
            assert torch.equal(one, other)
            assert not one.requires_grad


def operations(flat) -> list[str]:
    return [
        getattr(node.target, "__name__", str(node.target))
        for node in flat.__self__.graph.nodes
        if node.op == "call_function"
    ]


def test_what_does_nothing_and_what_is_constant_is_done_once():
    flat = flattened(gradient, torch.randn(3, 5), torch.randn(4, 5))
    names = " ".join(operations(flat))
    for name in ("detach", "full_like", "ones_like", "exp", "t.default t"):
        assert name not in names.split()
    # A function of its arguments alone has nothing to fold.
    assert len(operations(flattened(lambda x: [x * x + x], torch.ones(2)))) == 2


def written_constant(x: Tensor) -> list[Tensor]:
    total = torch.zeros_like(x)
    total[0] += x[0]
    total.view(-1).add_(1.0)
    return [total * 1.0]


def constant_result(x: Tensor) -> list[Tensor]:
    return [torch.ones_like(x).mul(3.0), x + torch.ones_like(x)]


def view_of_constant(x: Tensor) -> list[Tensor]:
    constant = torch.ones_like(x).mul(3.0)
    return [constant.view(-1), x + constant]


def parts_of_constant(x: Tensor) -> list[Tensor]:
    first, second = torch.arange(4.0).chunk(2)
    return [x[:2] + first, x[:2] * second, torch.ones(3).sort()[0] * x]


@pytest.mark.parametrize("function", [written_constant, constant_result, view_of_constant, parts_of_constant])
def test_no_call_sees_what_an_earlier_one_left(function):
    flat = flattened(function, torch.randn(3))
    for _ in range(3):
        x = torch.randn(3)
        found = flat(x)
        assert all(torch.equal(one, other) for one, other in zip(found, function(x), strict=True))
        for result in found:
            result.zero_()


def test_arguments_that_are_changed_in_place_are_those_of_the_call():
    def counted(count: Tensor, x: Tensor) -> list[Tensor]:
        with torch.no_grad():
            count.add_(1.0)
        return [x * count]

    example = torch.zeros(())
    flat = flattened(counted, example, torch.ones(2))
    assert example.item() == 0
    count = torch.zeros(())
    for number in (1.0, 2.0, 3.0):
        assert flat(count, torch.ones(2))[0].tolist() == [number] * 2
    assert count.item() == 3


def branches(x: Tensor) -> list[Tensor]:
    return [x if x.sum() > 0 else -x]


def reads(x: Tensor) -> list[Tensor]:
    return [x * x.max().item()]


def lists(x: Tensor) -> list[Tensor]:
    return [x * sum(x.tolist())]


def in_numpy(x: Tensor) -> list[Tensor]:
    return [x * float(x.numpy().sum())]


def selects(x: Tensor) -> list[Tensor]:
    return [x[x > 0]]


def draws(x: Tensor) -> list[Tensor]:
    return [x + torch.randn_like(x)]


@pytest.mark.parametrize("function", [branches, reads, lists, in_numpy, selects, draws])
def test_what_depends_on_values_or_on_chance_is_refused(function):
    with pytest.raises(NotFlat):
        flattened(function, torch.randn(3))
