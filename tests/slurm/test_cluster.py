"""The cluster that the other tests of this folder stand on does what they count on."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import slurm_cluster
from slurm_cluster import Cluster, ClusterError, of_cluster, started_cluster

pytestmark = pytest.mark.slurm
# Says which signals come, and when it has seen one goes on to the end.
LISTENER = """
import signal, sys, time
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda got, _: (print(signal.Signals(got).name, flush=True), sys.exit(0)))
print("ready", flush=True)
time.sleep(120)
"""


def submit(cluster: Cluster, *options: str, script: str) -> str:
    return cluster("sbatch", "--parsable", *options, "--wrap", script)


def wait_for_text(path: Path, text: str, seconds: float = 20.0) -> str:
    end = time.monotonic() + seconds
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < end, path.read_text() if path.exists() else f"no {path}"
        time.sleep(0.1)
    return path.read_text()


def test_two_jobs_run_at_once_one_on_each_node(cluster: Cluster, tmp_path: Path):
    # Each waits for the other.
    wait = f"until [ -e {tmp_path}/n1 -a -e {tmp_path}/n2 ]; do sleep 0.1; done"
    script = f"touch {tmp_path}/$SLURMD_NODENAME; {wait}; echo hello"
    jobs = [submit(cluster, f"--output={tmp_path}/%j.out", script=script) for _ in range(2)]
    ended = [cluster.wait_for(job, "COMPLETED", "FAILED") for job in jobs]
    assert [job["JobState"] for job in ended] == ["COMPLETED"] * 2
    assert {job["NodeList"] for job in ended} == {"n1", "n2"}
    assert [(tmp_path / f"{job}.out").read_text() for job in jobs] == ["hello\n"] * 2


def test_an_array_has_an_output_and_a_state_for_each_task(cluster: Cluster, tmp_path: Path):
    script = "echo $SLURM_ARRAY_JOB_ID $SLURM_ARRAY_TASK_ID; exit $SLURM_ARRAY_TASK_ID"
    array = submit(cluster, "--array=0-2", f"--output={tmp_path}/%a.out", script=script)
    ended = [cluster.wait_for(f"{array}_{task}", "COMPLETED", "FAILED") for task in range(3)]
    assert [(job["JobState"], job["ExitCode"]) for job in ended] == [
        ("COMPLETED", "0:0"), ("FAILED", "1:0"), ("FAILED", "2:0"),
    ]  # fmt: skip
    assert [(tmp_path / f"{task}.out").read_text() for task in range(3)] == [
        f"{array} {task}\n" for task in range(3)
    ]
    # Without accounting slurmctld alone knows of ended jobs, for MinJobAge seconds, and tells if asked.
    assert cluster("squeue", "--noheader", f"--jobs={array}") == ""
    states = cluster("squeue", "--noheader", "--array", "--states=all", f"--jobs={array}", "--format=%i %T")
    assert sorted(states.splitlines()) == [f"{array}_0 COMPLETED", f"{array}_1 FAILED", f"{array}_2 FAILED"]


def test_a_third_job_waits(cluster: Cluster, tmp_path: Path):
    array = submit(cluster, "--array=0-2", f"--output={tmp_path}/%a.out", script="sleep 60")
    for task in range(2):
        cluster.wait_for(f"{array}_{task}", "RUNNING")
    assert cluster.describe(f"{array}_2")["JobState"] == "PENDING"
    cluster("scancel", f"{array}_0")
    cluster.wait_for(f"{array}_2", "RUNNING")


def test_a_cancelled_job_is_told_first(cluster: Cluster, tmp_path: Path):
    (tmp_path / "listener.py").write_text(LISTENER)
    out = tmp_path / "out"
    job = submit(
        cluster, f"--output={out}", script=f"srun --unbuffered {sys.executable} {tmp_path}/listener.py"
    )
    wait_for_text(out, "ready")
    cluster("scancel", job)
    assert cluster.wait_for(job, "CANCELLED")["JobState"] == "CANCELLED"
    wait_for_text(out, "SIGTERM")


def test_a_requeued_job_starts_again(cluster: Cluster, tmp_path: Path):
    out = tmp_path / "out"
    script = 'echo count=$SLURM_RESTART_COUNT; [ -n "$SLURM_RESTART_COUNT" ] || sleep 60'
    array = submit(cluster, "--array=0", "--open-mode=append", f"--output={out}", script=script)
    wait_for_text(out, "count=\n")
    cluster("scontrol", "requeue", f"{array}_0")
    assert cluster.wait_for(f"{array}_0", "PENDING")["Restarts"] == "1"
    assert cluster.wait_for(f"{array}_0", "COMPLETED")["Restarts"] == "1"
    lines = out.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("count=", "count=1")


def test_jobs_of_a_node_that_fails_start_again(cluster: Cluster, tmp_path: Path):
    out = tmp_path / "out"
    script = 'echo count=$SLURM_RESTART_COUNT; [ -n "$SLURM_RESTART_COUNT" ] || sleep 60'
    options = ("--open-mode=append", "--nodelist=n1")
    again = submit(cluster, *options, f"--output={out}", script=script)
    wait_for_text(out, "count=\n")
    cluster("scontrol", "update", "NodeName=n1", "State=DOWN", "Reason=test")
    assert cluster.wait_for(again, "PENDING")["Restarts"] == "1"
    cluster.wait_for(again, "COMPLETED")
    assert out.read_text().endswith("count=1\n")


def test_the_signal_before_the_time_limit_comes_with_the_next_check(cluster: Cluster, tmp_path: Path):
    # Limits are whole minutes, and are looked at every 30 s; the signal comes with the last look before it is
    # due. One that is due 60 s before the end of a job of one minute comes with the first.
    (tmp_path / "listener.py").write_text(LISTENER)
    out = tmp_path / "out"
    script = f"srun --unbuffered {sys.executable} {tmp_path}/listener.py"
    job = submit(cluster, "--time=1", "--signal=USR1@60", f"--output={out}", script=script)
    assert wait_for_text(out, "SIG", seconds=45).splitlines() == ["ready", "SIGUSR1"]
    cluster.wait_for(job, "COMPLETED")


def test_a_partition_refuses_what_is_longer_than_its_limit(cluster: Cluster):
    with pytest.raises(ClusterError, match="Requested time limit is invalid"):
        submit(cluster, "--partition=short", "--time=2", "--output=/dev/null", script="true")


@pytest.mark.parametrize("death", ["close", "raise", "kill"])
def test_nothing_is_left_of_a_cluster(death: str, tmp_path: Path):
    if death == "kill":  # those who asked for a cluster are killed
        code = (
            "import time\nfrom slurm_cluster import started_cluster\n"
            "with started_cluster() as cluster:\n"
            "    print(cluster.configuration, flush=True)\n    time.sleep(60)"
        )
        environment = os.environ | {"PYTHONPATH": str(Path(slurm_cluster.__file__).parent)}
        with subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
        ) as asker:
            assert asker.stdout is not None
            folder = Path(asker.stdout.readline().strip()).parent
            assert len(of_cluster(folder)) >= 5
            asker.kill()
    else:
        try:
            with started_cluster() as other:
                folder = other.folder
                # One that ignores all that can be ignored, and has left its process group.
                script = f"trap '' TERM CONT INT; setsid sleep 123 & touch {tmp_path}/up; wait"
                submit(other, "--output=/dev/null", script=script)
                while not (tmp_path / "up").exists():
                    time.sleep(0.1)
                if death == "raise":
                    raise KeyError
        except KeyError:
            pass
        assert not folder.exists()
    end = time.monotonic() + 20
    while of_cluster(folder) or folder.exists():
        assert time.monotonic() < end, of_cluster(folder)
        time.sleep(0.1)


def test_a_machine_without_slurm_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    found = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, path: None if name in ("slurmd", "munged") else found(name, path=path)
    )
    with (
        pytest.raises(
            ClusterError, match=r"no munged, slurmd\. .* apt-get install munge slurmctld slurmd slurm-client"
        ),
        started_cluster(),
    ):
        pass
