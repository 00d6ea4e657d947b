"""What holds for every test; the presence of this file also puts tests/ on the import path, for cases.py."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings
from torch.distributions import Distribution

# The same examples on every run, and no limit on the time of one: machines are shared.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, here and in processes that a test starts: on a busy machine two wait for each other."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


@pytest.fixture(autouse=True)
def checks_of_distributions_are_on() -> None:
    """torch.compile turns them off for the whole process, so the order of tests would decide."""
    Distribution.set_default_validate_args(True)
