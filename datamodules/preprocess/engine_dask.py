"""Jobs on the workers of a dask cluster, on this machine or on many.

Plain futures, not joblib's backend for dask, which hangs when a worker dies. Workers may join and
leave while jobs run. A job whose worker died is blamed together with those that waited beside it;
all of them are run again when the rest is done, each alone.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from datamodules.errors import DataError
from datamodules.preprocess.engine import DIED, DiskFullError, Outcome, one_line, run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from distributed import Client, Future

    from datamodules.preprocess.engine import Engine, Job, Ledger

#: Seconds until a scheduler that does not answer counts as absent. [ours]
_CONNECT_S = 10
#: Seconds between looks at a cluster from which nothing is heard. [ours]
_LOOK_S = 5.0
#: Seconds without any worker until a run gives up: long enough to start some by hand. [ours]
NO_WORKER_S = 300.0


@contextmanager
def dask_engine(num_workers: int, address: str | None) -> Iterator[Engine]:
    """Connect to a dask scheduler, or start a cluster on this machine.

    Args:
        num_workers: Processes of the cluster on this machine.
        address: Of a scheduler that is running; None for a cluster on this machine.

    Yields:
        The engine.

    Raises:
        DataError: If the packages are absent, or nobody answers at the address.
    """
    try:
        import dask
        import distributed
    except ImportError as error:
        raise DataError(
            f"ENGINE=dask needs a package that is absent ({error}); run pip install -e '.[cluster]'"
        ) from error
    with ExitStack() as stack:
        # The engine reports on dead workers itself.
        stack.enter_context(_quiet("distributed"))
        if not address:
            # One death is enough: the blamed are run again by us, alone.
            stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
            cluster = distributed.LocalCluster(
                n_workers=num_workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                # As in the other engine, only the system limits memory.
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
            address = stack.enter_context(cluster).scheduler_address
        client = stack.enter_context(_connected(distributed.Client, address))
        yield _DaskEngine(client, address)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Let a library and its parts log nothing but what ends it."""
    names = [
        known for known in logging.root.manager.loggerDict if f"{known}.".startswith(f"{name}.")
    ]
    levels = {known: logging.getLogger(known).level for known in names}
    try:
        for known in names:
            logging.getLogger(known).setLevel(logging.CRITICAL)
        yield
    finally:
        for known, level in levels.items():
            logging.getLogger(known).setLevel(level)


def _connected(client: Callable[..., Client], address: str) -> Client:
    try:
        return client(address, timeout=_CONNECT_S)
    except (OSError, ValueError, TimeoutError) as error:
        raise DataError(
            f"no dask scheduler answers at {address} ({one_line(error)}); start one with "
            "`dask scheduler`, or leave ADDRESS out for processes of this machine"
        ) from error


class _DaskEngine:
    """Runs jobs on a cluster.

    Args:
        client: Connected to its scheduler.
        address: Of the scheduler.
    """

    def __init__(self, client: Client, address: str) -> None:
        self._client = client
        self._address = address

    def run(
        self, jobs: Sequence[Job], work: Callable[[Any], dict[str, Any]], ledger: Ledger
    ) -> Iterator[Outcome]:
        """Run every job once, as `Engine.run` says."""
        blamed = []
        for job, outcome in self._outcomes(jobs, work, ledger, self._room):
            if outcome is None:
                blamed.append(job)
            else:
                yield outcome
        for job in blamed:
            for _, outcome in self._outcomes([job], work, ledger, lambda: 1):
                yield outcome or Outcome(job, None, DIED, died=True)

    def _outcomes(
        self,
        jobs: Sequence[Job],
        work: Callable[[Any], dict[str, Any]],
        ledger: Ledger,
        room: Callable[[], int],
    ) -> Iterator[tuple[Job, Outcome | None]]:
        """Hand out jobs, a few ahead of the workers; when the disk is full, no more of them.

        Yields:
            Jobs and how they ended; None where the worker died.
        """
        left, full = iter(jobs), ""
        running: dict[Future, Job] = {}
        try:
            while True:
                # Asked again each time: workers that joined meanwhile get their share.
                for job in islice(left, 0 if full else max(0, room() - len(running))):
                    future = self._client.submit(run_job, job, work, ledger, pure=False)
                    running[future] = job
                if not running:
                    break
                for future in self._ended(list(running)):
                    job, outcome = running.pop(future), self._outcome(future)
                    if outcome is not None and outcome.full:
                        full = outcome.failure
                    else:
                        yield job, outcome
        finally:
            # Of a scheduler that is gone there is nothing to take back.
            with suppress(OSError, TimeoutError):
                self._client.cancel(list(running))
        if full:
            raise DiskFullError(full)

    def _room(self) -> int:
        """Count the jobs that may be under way: two for each thread, so that none waits."""
        return 2 * max(1, self._num_threads())

    def _num_threads(self) -> int:
        """Count the threads of all workers.

        Raises:
            DataError: If the scheduler is gone.
        """
        try:
            return sum(self._client.nthreads().values())
        except (OSError, TimeoutError) as error:
            raise self._lost("went away") from error

    def _ended(self, futures: Sequence[Future]) -> list[Future]:
        """Wait until some jobs have ended.

        Raises:
            DataError: If the scheduler is gone, or all workers stay away.
        """
        from distributed import wait

        seen = time.monotonic()
        while True:
            try:
                wait(futures, timeout=_LOOK_S, return_when="FIRST_COMPLETED")
                return [future for future in futures if future.done()]
            except TimeoutError:
                pass
            except Exception as error:
                # Cancelled futures, and whatever else a lost scheduler leaves behind.
                raise self._lost("went away") from error
            seen = time.monotonic() if self._num_threads() else seen
            if time.monotonic() - seen > NO_WORKER_S:
                raise self._lost(f"had no worker for {NO_WORKER_S:.0f} s")

    def _lost(self, what: str) -> DataError:
        return DataError(
            f"the dask scheduler at {self._address} {what}; what was done is kept: see to it, "
            f"start workers with `dask worker {self._address} --nthreads 1`, and run the same "
            "command again"
        )

    def _outcome(self, future: Future) -> Outcome | None:
        """Say how a job ended; None if its worker died.

        Raises:
            DataError: If the workers cannot even start a job.
        """
        from distributed import KilledWorker

        if future.status == "finished":
            result = future.result()
            assert isinstance(result, Outcome)
            return result
        error = future.exception() if future.status == "error" else None
        if isinstance(error, KilledWorker):
            return None
        if error is None:
            raise self._lost("dropped a job")
        # Dask wraps what happened, as a module that is absent there, into words of its own.
        while cause := error.__cause__ or error.__context__:
            error = cause
        raise DataError(
            f"the scheduler or the workers of {self._address} cannot do the work "
            f"({one_line(error)}); start both in the folder of this suite (or with it in "
            "PYTHONPATH), with the same packages as here"
        )
