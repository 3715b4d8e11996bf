"""Work on many items in worker processes, of which none stops the rest."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
#: Workers are processes; threads inside them would only compete.
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def run_all(
    work: Callable[[_Item], _Result], items: Sequence[_Item], num_workers: int
) -> Iterator[tuple[int, _Result | str]]:
    """Do the work on every item.

    Args:
        work: Called in a worker process; has to be picklable, as its result.
        items: What to work on.
        num_workers: Processes at once.

    Yields:
        Position of an item and its result, in the order in which they end; in place of the
        result one line that says why the work failed, if it raised or killed its process.
    """
    pending = dict(enumerate(items))
    while pending:
        for position, result in _run_pool(work, pending, num_workers):
            del pending[position]
            yield position, result
        # Only after a worker died is any left. One of the first was running then: alone, each
        # shows whether it was the one.
        for position in list(pending)[: 2 * num_workers]:
            alone = dict(_run_pool(work, {position: pending.pop(position)}, 1))
            yield position, alone.get(position, "the worker process died over it")


def _run_pool(
    work: Callable[[Any], Any], items: dict[int, Any], num_workers: int
) -> Iterator[tuple[int, Any]]:
    """Work until all is done or a worker dies."""
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    # Workers are started afresh, not forked: decoders and their threads do not survive a fork.
    pool = ProcessPoolExecutor(max_workers=num_workers, env=_ONE_THREAD)
    left = iter(list(items.items()))
    running: dict[Future[Any], int] = {}
    finished = False
    try:
        while True:
            for position, item in islice(left, 2 * num_workers - len(running)):
                running[pool.submit(work, item)] = position
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                failure = future.exception()
                if isinstance(failure, BrokenProcessPool):
                    return
                yield running.pop(future), _one_line(failure) if failure else future.result()
        finished = True
    except BrokenProcessPool:
        return
    finally:
        pool.shutdown(wait=True, kill_workers=not finished)


def _one_line(failure: BaseException) -> str:
    return f"{type(failure).__name__}: {' '.join(str(failure).split())}"
