"""Many jobs on many processes: one that raises or dies does not take the others along.

Every job leaves a file in a ledger as soon as it is done, so a run that is stopped in any way
goes on where it was. A dead worker (a crash inside a decoder, or the system killing it for
memory) breaks its pool; the jobs that were running then are run again, each alone, and one that
dies alone as well is reported.
"""

from __future__ import annotations

import errno
import json
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from datamodules.atomic import write_text_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

#: The disk takes no more: every further job would fail in the same way.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
#: Workers are processes; threads inside them would only compete.
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class DiskFullError(Exception):
    """Say that the disk took no more bytes, and that everything written before is whole."""


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        key: Names its file in the ledger; letters and digits.
        task: What the work function is given; has to be picklable.
        fingerprint: Everything that the result depends on, as JSON values. A result in the
            ledger counts as long as this is the same.
    """

    key: str
    task: Any
    fingerprint: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        job: The job.
        result: What the work function returned, as JSON values; None if it failed.
        failure: Why it failed, one line; empty if it did not. Failures do not go into the
            ledger, so the next run tries again.
        full: Whether it failed because the disk is full.
    """

    job: Job
    result: dict[str, Any] | None
    failure: str = ""
    full: bool = False


class Ledger:
    """A folder with one file per job: `KEY.start` while it runs, `KEY.json` when it is done.

    Args:
        folder: Made when it is first written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, key: str) -> None:
        """Mark a job as running."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"{key}.start").touch()

    def end(self, key: str) -> None:
        """Mark a job as no longer running."""
        (self._folder / f"{key}.start").unlink(missing_ok=True)

    def running(self, jobs: Iterable[Job]) -> list[Job]:
        """Tell which jobs were started and did not end."""
        return [job for job in jobs if (self._folder / f"{job.key}.start").exists()]

    def write(self, job: Job, result: dict[str, Any]) -> None:
        """Keep a result, wholly or not at all."""
        entry = {"fingerprint": job.fingerprint, "result": result}
        text = json.dumps(entry, indent=1, sort_keys=True, ensure_ascii=False)
        write_text_atomically(self._folder / f"{job.key}.json", text + "\n")

    def read(self, job: Job) -> dict[str, Any] | None:
        """Find the result of a job.

        Args:
            job: The job.

        Returns:
            The result; None if there is none, or one that was made of something else.
        """
        try:
            text = (self._folder / f"{job.key}.json").read_text(encoding="utf-8")
            entry = json.loads(text)
            if entry["fingerprint"] != json.loads(json.dumps(job.fingerprint)):
                return None
            return dict(entry["result"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def forget_started(self) -> None:
        """Drop the marks of a run that was stopped."""
        for path in self._folder.glob("*.start"):
            path.unlink(missing_ok=True)


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[[Any], dict[str, Any]],
    ledger: Ledger,
    num_workers: int,
) -> Iterator[Outcome]:
    """Run jobs in worker processes.

    Args:
        jobs: What to do; keys are unique.
        work: Called with a job's task in a worker process; its result holds JSON values.
        ledger: Takes the results.
        num_workers: Processes at once.

    Yields:
        The outcome of every job, in the order in which they end.

    Raises:
        DiskFullError: If the disk took no more, after the running jobs have ended.
    """
    ledger.forget_started()
    pending = {job.key: job for job in jobs}
    while pending:
        survived = False
        for outcome in _run_pool(list(pending.values()), work, ledger, num_workers):
            if outcome is None:
                survived = True
            else:
                yield _unless_full(outcome, pending)
        if survived:
            return
        suspects = ledger.running(pending.values())
        # Results of which the broken pool did not tell any more.
        for job in list(pending.values()):
            result = ledger.read(job)
            if result is not None and job not in suspects:
                yield _unless_full(Outcome(job, result), pending)
        for job in suspects or list(pending.values())[:1]:
            yield _unless_full(_run_alone(job, work, ledger), pending)


def _unless_full(outcome: Outcome, pending: dict[str, Job]) -> Outcome:
    """Strike a job off the list; stop at the first that finds the disk full."""
    pending.pop(outcome.job.key)
    if outcome.full:
        raise DiskFullError(outcome.failure)
    return outcome


def _run_alone(job: Job, work: Callable[[Any], dict[str, Any]], ledger: Ledger) -> Outcome:
    """Run a job that may have killed its worker, with nobody beside it."""
    ledger.end(job.key)
    outcomes = [outcome for outcome in _run_pool([job], work, ledger, 1) if outcome is not None]
    if outcomes:
        return outcomes[0]
    ledger.end(job.key)
    reason = "the worker process died, alone as well (a crash inside a library, or out of memory)"
    return Outcome(job, None, reason)


def _run_pool(
    jobs: Sequence[Job],
    work: Callable[[Any], dict[str, Any]],
    ledger: Ledger,
    num_workers: int,
) -> Iterator[Outcome | None]:
    """Run jobs until all are done or a worker dies.

    Yields:
        Outcomes; at the end None, unless a worker died.
    """
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    # Workers are started afresh, not forked: decoders and their threads do not survive a fork.
    pool = get_reusable_executor(max_workers=num_workers, env=_ONE_THREAD)
    finished = False
    try:
        yield from _dispatch(pool, jobs, work, ledger, 2 * num_workers)
        finished = True
        yield None
    except BrokenProcessPool:
        return
    finally:
        if not finished:
            # Nobody may be writing any more when the next pool, or a clean-up, begins.
            pool.shutdown(wait=True, kill_workers=True)


def _dispatch(
    pool: Executor,
    jobs: Sequence[Job],
    work: Callable[[Any], dict[str, Any]],
    ledger: Ledger,
    most_at_once: int,
) -> Iterator[Outcome]:
    """Hand out jobs, a few ahead of the workers; when the disk is full, no more of them."""
    left = iter(jobs)
    first = [pool.submit(_run_job, job, work, ledger) for job in islice(left, most_at_once)]
    running, full = set(first), None
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            outcome = future.result()
            full = outcome if outcome.full else full
            for job in islice(left, 0 if full else 1):
                running.add(pool.submit(_run_job, job, work, ledger))
            if not outcome.full:
                yield outcome
    if full:
        yield full


def _run_job(job: Job, work: Callable[[Any], dict[str, Any]], ledger: Ledger) -> Outcome:
    """Do one job; runs in a worker process."""
    try:
        ledger.start(job.key)
        result = work(job.task)
        ledger.write(job, result)
        return Outcome(job, result)
    except OSError as error:
        return Outcome(job, None, _one_line(error), full=error.errno in _NO_SPACE)
    except Exception as error:
        # A video that breaks a library, or us, must not take the others along.
        return Outcome(job, None, _one_line(error))
    finally:
        with suppress(OSError):
            ledger.end(job.key)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def remove_partial_files(folder: Path) -> int:
    """Remove what a killed process had begun to write.

    Args:
        folder: Searched with everything below it; nobody else may be writing there.

    Returns:
        Number of files removed.
    """
    partial = list(folder.rglob(".*.partial"))
    for path in partial:
        path.unlink(missing_ok=True)
    return len(partial)
