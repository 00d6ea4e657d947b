"""The networks have the stated layers and the stated start."""

import pytest
import torch
from torch import nn

from igr.models.networks import NETWORKS, Sizes

SIZES = Sizes(image_shape=(1, 8, 8), num_outputs=30, num_features=40, parameters_per_pixel=2)


def build(name: str, seed: int = 0):
    return NETWORKS[name](SIZES, torch.Generator().manual_seed(seed))


def linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize(
    ("name", "encoder", "decoder"),
    [
        ("dense", [(64, 30)], [(40, 128)]),
        (
            "dense_nonlinear",
            [(64, 512), (512, 256), (256, 30)],
            [(40, 256), (256, 512), (512, 128)],
        ),
    ],
)
def test_layers_are_those_of_the_paper(name, encoder, decoder):
    networks = build(name)
    for module, widths in zip(networks, (encoder, decoder), strict=True):
        assert [(layer.in_features, layer.out_features) for layer in linears(module)] == widths
        relus = sum(isinstance(layer, nn.ReLU) for layer in module.modules())
        assert relus == len(widths) - 1


def test_shapes_in_and_out():
    encoder, decoder = build("dense_nonlinear")
    assert encoder(torch.zeros(5, 1, 8, 8)).shape == (5, 30)
    assert decoder(torch.zeros(3, 5, 40)).shape == (3, 5, 2, 1, 8, 8)


def test_weights_are_glorot_uniform_and_biases_zero():
    for layer in linears(build("dense_nonlinear").encoder):
        bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
        weights = layer.weight.detach()
        assert weights.abs().max() <= bound
        # The variance of that uniform law, within five standard errors.
        scaled = (weights / bound).square()
        error = (scaled.std() / scaled.numel() ** 0.5).item()
        assert abs(scaled.mean().item() - 1 / 3) < 5 * error
        assert not layer.bias.detach().any()


def test_the_start_depends_on_the_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build("dense", seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(linears(first.encoder)[0].weight, linears(build("dense", 4).encoder)[0].weight)
    assert not torch.equal(linears(first.encoder)[0].weight, linears(build("dense", 5).encoder)[0].weight)
