"""One cluster for all tests of this folder, which each finds idle."""

from collections.abc import Iterator

import pytest

from slurm_cluster import Cluster, missing_programs, started_cluster


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Cluster]:
    if reason := missing_programs():
        pytest.skip(reason)
    with started_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(running_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The cluster, without jobs before and after the test; to it goes what this process submits."""
    running_cluster.drain()
    for name in running_cluster.foreign_variables():
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_CONF", str(running_cluster.configuration))
    yield running_cluster
    running_cluster.drain()
