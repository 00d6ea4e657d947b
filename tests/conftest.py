"""What holds for every test; the presence of this file also puts tests/ on the import path, for cases.py."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch.distributions import Distribution

from real_data import REAL_DATA

# Triton's kernels run where there is no GPU too, by its interpreter; they read this when they are defined.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# The same examples on every run, and no limit on the time of one: machines are shared.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

# A shell that starts the tests in the background has them ignore Ctrl-C, and all processes that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(autouse=True)
def a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for each test: none reads or writes that of the user."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("IGR_CACHE_DIR", str(folder))
    return folder


@pytest.fixture(autouse=True)
def no_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every address but this machine's own lies behind a proxy that does not answer."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the files of the real data sets; skips where there is none."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"needs the files of MNIST, Fashion-MNIST and Omniglot in {REAL_DATA} (IGR_TEST_DATA)")
    return REAL_DATA


@pytest.fixture(scope="session")
def real_cache(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that has all of the real data sets; what a test reads from it must not be changed."""
    from igr.data import load

    folder = tmp_path_factory.mktemp("real-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IGR_CACHE_DIR", str(folder))
        for name in ("mnist", "fmnist", "omniglot"):
            load(name, real_data)
    return folder
