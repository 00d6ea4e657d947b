"""Ours is torch's Adam to the bit."""

import torch

from igr.training.adam import Adam


def test_adam_equals_torch_optim_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    start = {"a": torch.randn(5, 3, generator=generator), "b": torch.randn(3, generator=generator)}
    ours = {name: tensor.clone() for name, tensor in start.items()}
    theirs = [tensor.clone().requires_grad_() for tensor in start.values()]
    adam = Adam(ours)
    reference = torch.optim.Adam(theirs, lr=0.01, eps=1e-7, fused=True)
    for _ in range(20):
        gradients = [torch.randn(t.shape, generator=generator) for t in start.values()]
        adam.step(gradients, 0.01)
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient.clone()
        reference.step()
    for mine, parameter in zip(ours.values(), theirs, strict=True):
        assert torch.equal(mine, parameter)


def test_the_state_is_all_that_a_step_depends_on():
    start = torch.linspace(-1, 1, 7)
    gradients = [torch.sin(start + k) for k in range(6)]
    unbroken = {"w": start.clone()}
    adam = Adam(unbroken)
    for gradient in gradients[:3]:
        adam.step([gradient], 0.1)
    resumed = {"w": unbroken["w"].clone()}
    other = Adam(resumed)
    for name, tensor in other.tensors().items():
        tensor.copy_(adam.tensors()[name])
    for gradient in gradients[3:]:
        adam.step([gradient], 0.1)
        other.step([gradient], 0.1)
    assert torch.equal(unbroken["w"], resumed["w"])
