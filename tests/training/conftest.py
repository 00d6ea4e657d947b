"""One thread for these small models: where cores are shared, two wait for each other at every step."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For this process and those it starts, so that both compute the same bits."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)
