"""Randomness as a function of (seed, stream, step), so that it never depends on history."""

import hashlib

import torch

_WORD = 0xFFFFFFFF


def _mix32(word: int) -> int:
    """A bijection of 32-bit words that spreads neighbours apart (the finalizer of MurmurHash3)."""
    word ^= word >> 16
    word = word * 0x85EBCA6B & _WORD
    word ^= word >> 13
    word = word * 0xC2B2AE35 & _WORD
    return word ^ word >> 16


def generator_key(seed: int, stream: str, step: int) -> int:
    """The 64-bit seed of the generator of a step.

    torch's generator on the CPU uses the low 32 bits alone. For a fixed seed and stream they are
    a bijection of the step modulo 2^32, so no two steps of a run can share their noise.
    """
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
    offset = int.from_bytes(digest[:4], "little")
    high = int.from_bytes(digest[4:], "little")
    return high << 32 | _mix32((step + offset) & _WORD)


def keyed_generator(seed: int, stream: str, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator that depends on its arguments alone.

    Arguments:
        seed: The seed of the run.
        stream: What the numbers are for, for instance ``"noise"``; streams are independent.
        step: The step, epoch or block that they are for.
        device: Where they are drawn. The CPU and CUDA give different numbers.
    """
    generator = torch.Generator(device)
    generator.manual_seed(generator_key(seed, stream, step))
    return generator
