"""Many jobs on many processes: one that raises or dies does not take the others along.

Every job leaves a file in a ledger as soon as it is done, so a run that is stopped in any way
goes on where it was. Two engines do the work, each in a file of its own: processes of this
machine, or the workers of a dask cluster. Which of them it was cannot be told from the result.
"""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from datamodules.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from datamodules.storage.output import OutputRoot

#: The disk takes no more: every further job would fail in the same way.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
#: How often a job that raises is run before it counts as failed: a shared disk or a bucket that
#: stumbles once is no reason to lose a video, one that always raises costs little. [ours]
MAX_TRIES = 3
ENGINES = ("local", "dask")
#: What is said of a job that killed its worker twice.
DIED = "the worker process died, alone as well (a crash inside a library, or out of memory)"


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
        failure: Why it failed, one line; empty if it did not. The next run tries again.
        full: Whether it failed because the disk is full.
        died: Whether it failed by killing its worker, which is not tried again and again.
    """

    job: Job
    result: dict[str, Any] | None
    failure: str = ""
    full: bool = False
    died: bool = False


class Engine(Protocol):
    """Runs jobs somewhere."""

    def run(
        self, jobs: Sequence[Job], work: Callable[[Any], dict[str, Any]], ledger: Ledger
    ) -> Iterator[Outcome]:
        """Run every job once, those of a worker that died once more, each alone.

        Args:
            jobs: What to do; keys are unique.
            work: Called with a job's task in a worker process; its result holds JSON values.
            ledger: Takes the results; the workers write into it.

        Yields:
            The outcome of every job, in the order in which they end.

        Raises:
            DiskFullError: If the disk took no more, after the running jobs have ended.
            DataError: If there is nobody left to do the work.
        """


class Ledger:
    """A folder with one file per job, `KEY.json`, written when the job is done or has failed.

    Args:
        root: The store it belongs to.
        folder: Its place in the store; made when it is first written to.
    """

    def __init__(self, root: OutputRoot, folder: str = "ledger") -> None:
        self._root = root
        self._folder = folder

    def write(self, job: Job, result: dict[str, Any]) -> None:
        """Keep a result, wholly or not at all."""
        self._write(job, {"result": result})

    def write_failure(self, job: Job, failure: str) -> None:
        """Keep why a job failed; it counts as not done."""
        self._write(job, {"failure": failure})

    def read(self, job: Job) -> dict[str, Any] | None:
        """Find the result of a job.

        Args:
            job: The job.

        Returns:
            The result; None if there is none, or one that was made of something else.
        """
        return self.read_all([job]).get(job.key)

    def read_all(self, jobs: Iterable[Job], without: str = "") -> dict[str, dict[str, Any]]:
        """Find the results of many jobs; see `read`.

        Args:
            jobs: The jobs.
            without: Entry of the fingerprints that need not be the same; all must be if empty.

        Returns:
            Results by key.
        """
        jobs = list(jobs)
        texts = self._root.read_all([self._path(job) for job in jobs])
        results = {job.key: _result(texts.get(self._path(job)), job, without) for job in jobs}
        return {key: result for key, result in results.items() if result is not None}

    def drop(self, jobs: Iterable[Job]) -> None:
        """Forget what is known of jobs, since they are about to be done again."""
        self._root.remove([self._path(job) for job in jobs])

    def _write(self, job: Job, content: dict[str, Any]) -> None:
        entry = {"fingerprint": job.fingerprint, **content}
        text = json.dumps(entry, indent=1, sort_keys=True, ensure_ascii=False)
        self._root.write(self._path(job), f"{text}\n".encode())

    def _path(self, job: Job) -> str:
        return f"{self._folder}/{job.key}.json"


def _result(text: bytes | None, job: Job, without: str) -> dict[str, Any] | None:
    """Read one entry of the ledger; None if it was made of something else."""
    try:
        entry = json.loads(text or b"")
        made, wanted = dict(entry["fingerprint"]), json.loads(json.dumps(job.fingerprint))
        if made | {without: None} != wanted | {without: None}:
            return None
        return dict(entry["result"])
    except (ValueError, KeyError, TypeError):
        return None


def check_engine(name: str, address: str | None) -> None:
    """Check what can be checked of an engine without starting it.

    Args:
        name: As `open_engine` takes it.
        address: As `open_engine` takes it.

    Raises:
        DataError: If there is no such engine, or an address for one that takes none.
    """
    if name not in ENGINES:
        raise DataError(f"no engine is called {name!r}; there are {', '.join(ENGINES)}")
    if address and name != "dask":
        raise DataError(f"the address {address} is for ENGINE=dask; local takes none")


def open_engine(
    name: str, num_workers: int, address: str | None = None
) -> AbstractContextManager[Engine]:
    """Make an engine, to be used inside `with`.

    Args:
        name: `local`: processes of this machine; `dask`: the workers of a dask cluster.
        num_workers: Processes at once on this machine; not used where a scheduler is given.
        address: Of the dask scheduler, for example `tcp://node1:8786`. Without it a cluster is
            started on this machine.

    Returns:
        The engine.

    Raises:
        DataError: If there is no such engine, or an address for one that takes none.
    """
    check_engine(name, address)
    # Imported here, so that one engine does not pull in the libraries of the other.
    if name == "dask":
        from datamodules.preprocess.engine_dask import dask_engine

        return dask_engine(num_workers, address)
    from datamodules.preprocess.engine_local import local_engine

    return local_engine(num_workers)


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[[Any], dict[str, Any]],
    ledger: Ledger,
    engine: Engine,
) -> Iterator[Outcome]:
    """Run jobs; those that raise are tried again when all others are done.

    Args:
        jobs: What to do; keys are unique.
        work: Called with a job's task in a worker process; its result holds JSON values.
        ledger: Takes the results, and why the others failed.
        engine: Where to run them.

    Yields:
        The outcome of every job, in the order in which they end.

    Raises:
        DiskFullError: If the disk took no more, after the running jobs have ended.
        DataError: If there is nobody left to do the work.
    """
    # What is in the ledger from now on was done in this run.
    ledger.drop(jobs)
    left = list(jobs)
    for tries_left in reversed(range(MAX_TRIES)):
        again = []
        for outcome in engine.run(left, work, ledger):
            if outcome.result is None and tries_left and not outcome.died:
                again.append(outcome.job)
                continue
            if outcome.result is None:
                ledger.write_failure(outcome.job, outcome.failure)
            yield outcome
        if not again:
            return
        left = again


def run_job(job: Job, work: Callable[[Any], dict[str, Any]], ledger: Ledger) -> Outcome:
    """Do one job; runs in a worker process.

    Args:
        job: The job.
        work: Called with its task.
        ledger: Takes the result.

    Returns:
        How it ended; errors become a failure.
    """
    try:
        # Done in this run already, by a worker that died before it could say so.
        done = ledger.read(job)
        if done is not None:
            return Outcome(job, done)
        result = work(job.task)
        ledger.write(job, result)
        return Outcome(job, result)
    except OSError as error:
        return Outcome(job, None, one_line(error), full=error.errno in _NO_SPACE)
    except Exception as error:
        # A video that breaks a library, or us, must not take the others along.
        return Outcome(job, None, one_line(error))


def one_line(error: BaseException) -> str:
    """Describe an error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
