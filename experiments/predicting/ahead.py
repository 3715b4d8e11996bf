"""Overlap of work: one thread makes what another one uses, a little ahead of it."""

from __future__ import annotations

import queue
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

#: How often a thread that waits looks whether its work is still wanted, in seconds. [ours]
_LOOK_S = 0.2


class _Failure:
    """What the other thread ended by."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


@contextmanager
def ahead(items: Iterable[T], size: int) -> Iterator[Iterator[T]]:
    """Let a thread of its own make items in advance.

    Decoding, warping and networks leave Python's lock, so that they really run side by side.

    Args:
        items: What to make; touched by that thread alone until the block ends.
        size: Most items that wait.

    Yields:
        The items in order. What making them raises is raised here. When the block ends, the
        thread has ended.
    """
    waiting: queue.Queue[object] = queue.Queue(size)
    unwanted = threading.Event()

    def put(item: object) -> bool:
        while not unwanted.is_set():
            try:
                waiting.put(item, timeout=_LOOK_S)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:  # raised again by who waits for the items
            put(_Failure(error))

    thread = threading.Thread(target=make, daemon=True, name="ahead")
    thread.start()
    try:
        yield _taken(waiting)
    finally:
        unwanted.set()
        thread.join()


def _taken(waiting: queue.Queue[object]) -> Iterator[T]:
    while True:
        item = waiting.get()
        if item is _END:
            return
        if isinstance(item, _Failure):
            raise item.error
        yield item  # type: ignore[misc]
