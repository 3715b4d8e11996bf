"""Jobs on processes of this machine.

A dead worker (a crash inside a decoder, or the system killing it for memory) breaks its pool; the
jobs that were running then are run again, each alone, and one that dies alone as well is reported.
"""

from __future__ import annotations

import os
import shutil
import time
import warnings
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any

from datamodules.preprocess.engine import DIED, DiskFullError, Outcome, run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor

    from datamodules.preprocess.engine import Engine, Job, Ledger

#: Workers are processes; threads inside them would only compete.
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

#: Seconds between a worker's looks at the process that it works for; far below the time that
#: the next run takes to start. [ours]
_LOOK_S = 0.2


@contextmanager
def local_engine(num_workers: int) -> Iterator[Engine]:
    """Make the engine of this machine.

    Args:
        num_workers: Processes at once.

    Yields:
        The engine.
    """
    # On this machine's disk: the marks are for its workers alone, and many a store is far away.
    with TemporaryDirectory(prefix="running-") as marks:
        yield _LocalEngine(num_workers, Path(marks))


class _LocalEngine:
    """Runs jobs in a pool of processes.

    Args:
        num_workers: Processes at once.
        marks: An empty folder; holds a file for each job while it runs.
    """

    def __init__(self, num_workers: int, marks: Path) -> None:
        self._num_workers = num_workers
        self._marks = marks

    def run(
        self, jobs: Sequence[Job], work: Callable[[Any], dict[str, Any]], ledger: Ledger
    ) -> Iterator[Outcome]:
        """Run every job once, as `Engine.run` says."""
        pending = {job.key: job for job in jobs}
        while pending:
            survived = False
            for outcome in self._run_pool(list(pending.values()), work, ledger, self._num_workers):
                if outcome is None:
                    survived = True
                else:
                    yield _unless_full(outcome, pending)
            if survived:
                return
            suspects = [job for job in pending.values() if (self._marks / job.key).exists()]
            for job in suspects or list(pending.values())[:1]:
                yield _unless_full(self._run_alone(job, work, ledger), pending)

    def _run_alone(
        self, job: Job, work: Callable[[Any], dict[str, Any]], ledger: Ledger
    ) -> Outcome:
        """Run a job that may have killed its worker, with nobody beside it."""
        outcomes = [o for o in self._run_pool([job], work, ledger, 1) if o is not None]
        (self._marks / job.key).unlink(missing_ok=True)
        return outcomes[0] if outcomes else Outcome(job, None, DIED, died=True)

    def _run_pool(
        self,
        jobs: Sequence[Job],
        work: Callable[[Any], dict[str, Any]],
        ledger: Ledger,
        num_workers: int,
    ) -> Iterator[Outcome | None]:
        """Run jobs until all are done or a worker dies.

        Yields:
            Outcomes; at the end None, unless a worker died.
        """
        from joblib.externals.loky import ProcessPoolExecutor
        from joblib.externals.loky.process_executor import BrokenProcessPool

        # loky starts a worker anew that has grown; nothing is lost, and nobody need be told.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
        # Workers are started afresh, not forked: decoders and their threads do not survive a fork.
        # A pool of our own: joblib finds the shared one and takes it for one of its making.
        pool = ProcessPoolExecutor(
            max_workers=num_workers,
            env=_ONE_THREAD,
            initializer=_end_with,
            initargs=(os.getpid(), self._marks),
        )
        finished = False
        try:
            yield from self._dispatch(pool, jobs, work, ledger, 2 * num_workers)
            finished = True
            yield None
        except BrokenProcessPool:
            return
        finally:
            # Nobody may be writing any more when the next pool, or a clean-up, begins.
            pool.shutdown(wait=True, kill_workers=not finished)

    def _dispatch(
        self,
        pool: Executor,
        jobs: Sequence[Job],
        work: Callable[[Any], dict[str, Any]],
        ledger: Ledger,
        most_at_once: int,
    ) -> Iterator[Outcome]:
        """Hand out jobs, a few ahead of the workers; when the disk is full, no more of them."""
        calls = (pool.submit(_run_marked, job, work, ledger, self._marks / job.key) for job in jobs)
        running, full = set(islice(calls, most_at_once)), None
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                full = outcome if outcome.full else full
                running |= set(islice(calls, 0 if full else 1))
                if not outcome.full:
                    yield outcome
        if full:
            yield full


def _end_with(employer: int, marks: Path) -> None:
    """Let this worker not outlive a killed run: the next one would find it writing.

    Args:
        employer: Process id of the run.
        marks: Its folder, which it could not remove itself.
    """
    Thread(target=_watch, args=(employer, marks), daemon=True).start()


def _watch(employer: int, marks: Path) -> None:
    while os.getppid() == employer:
        time.sleep(_LOOK_S)
    shutil.rmtree(marks, ignore_errors=True)
    os._exit(1)


def _run_marked(
    job: Job, work: Callable[[Any], dict[str, Any]], ledger: Ledger, mark: Path
) -> Outcome:
    """Do one job, and leave a mark if the process dies of it; runs in a worker process."""
    mark.touch()
    try:
        return run_job(job, work, ledger)
    finally:
        with suppress(OSError):
            mark.unlink()


def _unless_full(outcome: Outcome, pending: dict[str, Job]) -> Outcome:
    """Strike a job off the list; stop at the first that finds the disk full."""
    pending.pop(outcome.job.key)
    if outcome.full:
        raise DiskFullError(outcome.failure)
    return outcome
