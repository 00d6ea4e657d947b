"""Randomness is a function of (seed, stream, step), and no two steps share it."""

import pytest
import torch

from igr.training.randomness import generator_key, keyed_generator


def draw(seed: int, stream: str, step: int) -> torch.Tensor:
    return torch.randn(8, generator=keyed_generator(seed, stream, step))


def test_the_same_key_gives_the_same_numbers():
    assert torch.equal(draw(3, "noise", 7), draw(3, "noise", 7))


@pytest.mark.parametrize(
    "other", [(4, "noise", 7), (3, "order", 7), (3, "noise", 8)], ids=["seed", "stream", "step"]
)
def test_each_part_of_the_key_matters(other):
    assert not torch.equal(draw(3, "noise", 7), draw(*other))


def test_the_word_that_the_cpu_uses_never_repeats_within_a_stream():
    keys = {generator_key(0, "noise", step) & 0xFFFFFFFF for step in range(200_000)}
    assert len(keys) == 200_000


def test_the_word_wraps_only_after_2_to_the_32_steps():
    word = generator_key(0, "noise", 5) & 0xFFFFFFFF
    assert generator_key(0, "noise", 5 + 2**32) & 0xFFFFFFFF == word


def test_neighbouring_steps_are_uncorrelated():
    draws = torch.stack([draw(0, "noise", step) for step in range(4000)]).double()
    products = draws[:-1] * draws[1:]
    z = products.mean(0) / (products.std(0) / len(products) ** 0.5)
    assert z.abs().max() < 5


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    draw(0, "noise", 0)
    assert torch.equal(torch.get_rng_state(), before)
