import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from datamodules.errors import DataError
from datamodules.preprocess import engine_dask
from datamodules.preprocess.engine import DiskFullError, Ledger, Outcome, open_engine, run_jobs
from datamodules.storage.output import LocalOutput
from tests.datamodules.preprocess.test_engine import make_jobs, results_in, work
from tests.support.cluster import dask_cluster

pytest.importorskip("distributed", reason="needs the extra `cluster`")


def tries(folder: Path, number: int) -> str:
    return (folder / f"n{number}.tries").read_text()


def test_one_that_raises_and_those_that_end_their_worker_leave_the_rest(tmp_path: Path) -> None:
    kinds = {0: "die_once", 2: "raise", 4: "exit", 7: "raise_once"}
    jobs = make_jobs(tmp_path, kinds, 12, seconds=0.02)
    with open_engine("dask", 2) as engine:
        outcomes = list(run_jobs(jobs, work, Ledger(LocalOutput(tmp_path)), engine))
        full = make_jobs(tmp_path / "full", {1: "full"}, 40, seconds=0.02)
        (tmp_path / "full").mkdir()
        with pytest.raises(DiskFullError, match="No space left"):
            list(run_jobs(full, work, Ledger(LocalOutput(tmp_path / "full")), engine))
    by_key = {outcome.job.key: outcome for outcome in outcomes}
    assert len(outcomes) == len(by_key) == 12
    assert {key for key, o in by_key.items() if o.result is None} == {"k2", "k4"}
    assert by_key["k2"].failure == "ValueError: this one raises"
    assert "died" in by_key["k4"].failure
    # Once more if its answer was lost with the worker that a neighbour ended.
    assert tries(tmp_path, 2) in ("xxx", "xxxx")
    assert tries(tmp_path, 4) == "xx"  # once beside others, once alone
    assert tries(tmp_path, 0) == "xx"
    assert results_in(tmp_path) == sorted(key for key, o in by_key.items() if o.result)
    assert os.getpid() not in {o.result["pid"] for o in outcomes if o.result}
    assert len(list((tmp_path / "full").glob("*.tries"))) < 20


def test_absent_schedulers_and_packages_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_dask, "_CONNECT_S", 0.3)
    with pytest.raises(DataError, match=r"no dask scheduler answers at tcp://127.0.0.1:9 "):
        open_engine("dask", 1, "tcp://127.0.0.1:9").__enter__()
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DataError, match=r"pip install -e '\.\[cluster\]'"):
        open_engine("dask", 1).__enter__()


def test_the_cause_of_a_failure_is_told_and_not_its_wrapping() -> None:
    try:
        try:
            raise ModuleNotFoundError("No module named 'datamodules'")
        except ModuleNotFoundError as cause:
            raise RuntimeError("Error during deserialization of the task graph") from cause
    except RuntimeError as error:
        future = SimpleNamespace(status="error", exception=lambda wrapped=error: wrapped)
    engine = engine_dask._DaskEngine(cast("Any", None), "tcp://node1:8786")
    with pytest.raises(DataError, match=r"\(ModuleNotFoundError: No module .*PYTHONPATH"):
        engine._outcome(cast("Any", future))


@pytest.mark.slow
def test_a_killed_worker_costs_no_job(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, {}, 30, seconds=0.1)
    outcomes: list[Outcome] = []
    with open_engine("dask", 2) as engine:
        for outcome in run_jobs(jobs, work, Ledger(LocalOutput(tmp_path)), engine):
            outcomes.append(outcome)
            if len(outcomes) == 5:
                assert outcome.result
                os.kill(outcome.result["pid"], signal.SIGKILL)
    assert sorted(o.job.key for o in outcomes if o.result) == sorted(job.key for job in jobs)
    assert results_in(tmp_path) == sorted(job.key for job in jobs)
    assert sum(len(tries(tmp_path, i)) for i in range(30)) <= 34


@pytest.mark.slow
def test_workers_may_come_late_and_go(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, {}, 60, seconds=0.2)
    pids: list[int] = []
    # Nobody is there when the run begins.
    with (
        dask_cluster(tmp_path / "cluster") as cluster,
        open_engine("dask", 1, cluster.address) as engine,
    ):
        run = run_jobs(jobs, work, Ledger(LocalOutput(tmp_path)), engine)
        first = cluster.add_worker("--no-nanny")
        for outcome in run:
            assert outcome.result
            pids.append(outcome.result["pid"])
            if len(pids) == 5:
                second = cluster.add_worker("--no-nanny")
            if len(pids) == 40:
                first.kill()
    assert {first.pid, second.pid} == set(pids)
    assert set(pids[-10:]) == {second.pid}
    assert len(pids) == 60
    assert len(results_in(tmp_path)) == 60


@pytest.mark.slow
def test_a_cluster_that_is_gone_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_dask, "_LOOK_S", 0.5)
    monkeypatch.setattr(engine_dask, "NO_WORKER_S", 2.0)
    jobs = make_jobs(tmp_path, {}, 100, seconds=0.1)
    with (
        dask_cluster(tmp_path / "cluster") as cluster,
        open_engine("dask", 1, cluster.address) as engine,
    ):
        with pytest.raises(DataError, match="had no worker for 2 s"):
            list(run_jobs(jobs, work, Ledger(LocalOutput(tmp_path)), engine))
        cluster.add_worker()
        run = run_jobs(jobs, work, Ledger(LocalOutput(tmp_path)), engine)
        next(run)
        cluster.scheduler.kill()
        started = time.monotonic()
        with pytest.raises(DataError, match=r"the dask scheduler at .* went away"):
            list(run)
        assert time.monotonic() - started < 60
    assert results_in(tmp_path)
