import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from datamodules.errors import DataError
from datamodules.preprocess.engine import (
    MAX_TRIES,
    DiskFullError,
    Job,
    Ledger,
    Outcome,
    open_engine,
    run_jobs,
)
from datamodules.storage.output import LocalOutput


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Do what the task says; runs in a worker process."""
    folder, name = Path(task["folder"]), task["name"]
    with (folder / f"{name}.tries").open("a") as file:
        file.write("x")
    kind = task.get("kind")
    if kind == "raise_once" and (folder / f"{name}.tries").read_text() == "x":
        raise OSError("for once")
    if kind == "raise":
        raise ValueError("this one\nraises")
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "exit":
        os._exit(1)
    if kind == "die_once" and (folder / f"{name}.tries").read_text() == "x":
        # Let a neighbour be in flight, however slowly its worker starts.
        deadline = time.monotonic() + 5
        while len(list(folder.glob("*.tries"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
        os._exit(1)
    if kind == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    time.sleep(task.get("seconds", 0.0))
    return {"name": name, "pid": os.getpid()}


def make_jobs(folder: Path, kinds: dict[int, str], count: int, **more: Any) -> list[Job]:
    return [
        Job(
            f"k{i}",
            {"folder": str(folder), "name": f"n{i}", "kind": kinds.get(i), **more},
            {"i": i},
        )
        for i in range(count)
    ]


def run(jobs: list[Job], folder: Path, num_workers: int) -> dict[str, Outcome]:
    ledger = Ledger(LocalOutput(folder))
    with open_engine("local", num_workers) as engine:
        return {o.job.key: o for o in run_jobs(jobs, work, ledger, engine)}


def results_in(folder: Path) -> list[str]:
    entries = {path.stem: json.loads(path.read_text()) for path in folder.glob("ledger/*.json")}
    return sorted(key for key, entry in entries.items() if "result" in entry)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_one_that_raises_and_one_that_kills_its_worker_leave_the_rest(
    tmp_path: Path, num_workers: int
) -> None:
    jobs = make_jobs(tmp_path, {3: "raise", 5: "die"}, 10)
    outcomes = run(jobs, tmp_path, num_workers)
    assert sorted(outcomes) == sorted(job.key for job in jobs)
    assert {key for key, o in outcomes.items() if o.result is None} == {"k3", "k5"}
    assert outcomes["k3"].failure == "ValueError: this one raises"
    assert "died" in outcomes["k5"].failure
    assert (tmp_path / "n5.tries").read_text() == "xx"  # once beside others, once alone
    assert (tmp_path / "n3.tries").read_text() == "x" * MAX_TRIES
    assert len(results_in(tmp_path)) == 8
    failed = json.loads((tmp_path / "ledger" / "k3.json").read_text())
    assert failed["failure"] == "ValueError: this one raises"


def test_a_job_that_raises_once_is_tried_again(tmp_path: Path) -> None:
    outcomes = run(make_jobs(tmp_path, {1: "raise_once"}, 3), tmp_path, 2)
    assert all(outcome.result is not None for outcome in outcomes.values())
    assert [(tmp_path / f"n{i}.tries").read_text() for i in range(3)] == ["x", "xx", "x"]
    assert results_in(tmp_path) == ["k0", "k1", "k2"]


def test_the_neighbour_of_a_dead_worker_is_run_again(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, {0: "die_once"}, 2, seconds=1.0)
    outcomes = run(jobs, tmp_path, 2)
    assert all(outcome.result is not None for outcome in outcomes.values())
    assert (tmp_path / "n1.tries").read_text() == "xx"


def test_work_is_done_in_other_processes(tmp_path: Path) -> None:
    outcomes = run(make_jobs(tmp_path, {}, 2), tmp_path, 1)
    assert os.getpid() not in {o.result["pid"] for o in outcomes.values() if o.result}


def test_a_full_disk_stops_after_the_running_jobs(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, {2: "full"}, 40, seconds=0.02)
    with pytest.raises(DiskFullError, match="No space left"):
        run(jobs, tmp_path, 2)
    started = len(list(tmp_path.glob("*.tries")))
    assert 3 <= started < 20
    assert len(results_in(tmp_path)) == started - 1


def test_ledger_keeps_results_of_the_same_fingerprint_only(tmp_path: Path) -> None:
    ledger = Ledger(LocalOutput(tmp_path))
    job = Job("k", None, {"size": 3, "points": (1, 2)})
    assert ledger.read(job) is None
    ledger.write(job, {"status": "ok"})
    assert ledger.read(job) == {"status": "ok"}
    assert ledger.read(Job("k", None, {"size": 4, "points": (1, 2)})) is None
    (tmp_path / "ledger" / "k.json").write_text('{"fingerprint":')
    assert ledger.read(job) is None
    ledger.write_failure(job, "no luck")
    assert ledger.read(job) is None
    ledger.write(job, {"status": "ok"})
    ledger.drop([job])
    assert ledger.read(job) is None


def test_a_result_of_before_is_not_taken_when_the_pool_breaks(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, {0: "die_once"}, 6, seconds=0.1)
    Ledger(LocalOutput(tmp_path)).write(jobs[5], {"name": "of an earlier run"})
    assert run(jobs, tmp_path, 2)["k5"].result != {"name": "of an earlier run"}


def test_unknown_engines_and_needless_addresses_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no engine is called 'ray'; there are local, dask"):
        open_engine("ray", 1)
    with pytest.raises(DataError, match="ENGINE=dask"):
        open_engine("local", 1, "tcp://node1:8786")


SCRIPT = """
import signal
import sys
from pathlib import Path
from datamodules.preprocess.engine import Ledger, open_engine, run_jobs
from datamodules.storage.output import LocalOutput
from tests.datamodules.preprocess.test_engine import make_jobs, work
if __name__ == "__main__":
    # A shell that starts the tests in the background has Ctrl-C ignored below it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(sys.argv[1])
    jobs = make_jobs(folder, {}, 40, seconds=0.1)
    with open_engine("local", 2) as engine:
        for outcome in run_jobs(jobs, work, Ledger(LocalOutput(folder)), engine):
            sys.stdout.write(f"{outcome.job.key}\\n")
            sys.stdout.flush()
"""


def start_script(tmp_path: Path, **variables: str) -> subprocess.Popen[bytes]:
    """Start a run in a process of its own, and wait for its first result."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_workers_do_not_outlive_a_killed_run(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    process = start_script(tmp_path, TMPDIR=str(tmp_path / "tmp"))
    os.kill(process.pid, signal.SIGKILL)  # it alone: the workers are told nothing
    process.wait(timeout=20)
    assert process.stdout is not None
    process.stdout.close()
    time.sleep(1.0)
    done = len(list(tmp_path.glob("*.tries")))
    time.sleep(0.5)
    assert len(list(tmp_path.glob("*.tries"))) == done < 40
    assert not list((tmp_path / "tmp").glob("running-*"))


def test_ctrl_c_ends_all_processes(tmp_path: Path) -> None:
    process = start_script(tmp_path)
    assert process.stdout is not None
    with process.stdout:
        for _ in range(5):  # one that meets a clean-up is lost, and a user presses again
            with suppress(ProcessLookupError):
                # as a terminal does: to the workers, too
                os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.4)
                break
        assert process.wait(timeout=20) != 0
    done = len(list(tmp_path.glob("*.tries")))
    time.sleep(0.5)
    assert len(list(tmp_path.glob("*.tries"))) == done < 40
