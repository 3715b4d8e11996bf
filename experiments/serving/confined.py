"""The parent's side of a child process: answer it, watch over it, end it, and say how it ended."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.serving import wire
from experiments.serving.child import run_child
from experiments.serving.errors import STATUS_OF, JobError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from experiments.serving.batching import Batcher
    from experiments.serving.child import Order, Tell

#: Clips that a child may ask for at once. [ours]
_MAX_CLIPS = 256
#: Seconds between two looks at whether a job was cancelled. [ours]
_LOOK_S = 0.2
#: A child that was told nothing more to do, and that ends by itself, may take this long. [ours]
_LAST_S = 5.0
_SIGNALS = {
    signal.SIGKILL: ("too_much_memory", "the video takes more memory than the machine has"),
    signal.SIGXCPU: ("too_slow", "the video takes more processor time than is allowed"),
}
# One server of forks for the whole process: it has imported what a child needs, and nothing else.
_context = get_context("forkserver")


def warm_up() -> None:
    """Start the process that children are forked from, so that the first job needs not wait."""
    _context.set_forkserver_preload(["experiments.serving.task", "experiments.serving.child"])
    child = _context.Process(target=_nothing)
    child.start()
    child.join()


def _nothing() -> None:
    """Do nothing, in a child."""


def run_confined(
    order: Order,
    networks: Sequence[Batcher],
    tell: Tell = lambda *_: None,
    cancelled: Callable[[], bool] = lambda: False,
    held: Callable[[Sequence[str]], None] = lambda _: None,
) -> None:
    """Run a child to its end.

    Args:
        order: What it is to do.
        networks: The networks whose specs are in the order.
        tell: Called with its progress.
        cancelled: Asked some times a second whether to give up.
        held: Called with the layers that confine the child.

    Raises:
        JobError: It failed, was ended, or ended itself without a result.
    """
    ours, theirs = _context.Pipe()
    process = _context.Process(target=run_child, args=(theirs, order), daemon=True)
    with ours, theirs, ExitStack() as stack:
        process.start()
        theirs.close()
        for network in networks:
            stack.enter_context(network)
        with _watched(process, order.limits.wall_s, cancelled) as why:
            failure = _Conversation(ours, networks, tell, held).hold()
        if failure is not None and failure.code == "internal":
            process.kill()
        process.join(_LAST_S)
        if process.is_alive():
            process.kill()
            process.join()
        exit_code = process.exitcode
        process.close()
    if why:
        raise why[0]
    if failure is not None:
        raise failure if failure.code != "crashed" else _ended(exit_code)


@contextmanager
def _watched(
    process: Any, wall_s: float, cancelled: Callable[[], bool]
) -> Iterator[list[JobError]]:
    """End a process when its time is over, or nobody wants it; the list then says why."""
    why: list[JobError] = []
    over = threading.Event()
    deadline = time.monotonic() + wall_s

    def watch() -> None:
        while not over.wait(_LOOK_S):
            if cancelled():
                why.append(JobError("cancelled", "the job was cancelled"))
            elif time.monotonic() > deadline:
                why.append(JobError("too_slow", f"the video was not done within {wall_s:.0f} s"))
            if why:
                process.kill()
                return

    thread = threading.Thread(target=watch, daemon=True, name="watch")
    thread.start()
    try:
        yield why
    except BaseException:
        process.kill()
        raise
    finally:
        over.set()
        thread.join()


def _ended(exit_code: int | None) -> JobError:
    """Say why a child ended that said nothing itself."""
    number = -(exit_code or 0)
    if number in _SIGNALS:
        return JobError(*_SIGNALS[signal.Signals(number)])
    return JobError("crashed", "the video made its decoder crash; convert it, and try again")


class _Conversation:
    """Answers a child until it is done or gone."""

    def __init__(
        self,
        pipe: Connection,
        networks: Sequence[Batcher],
        tell: Tell,
        held: Callable[[Sequence[str]], None],
    ) -> None:
        self._pipe = pipe
        self._networks = networks
        self._tell = tell
        self._held = held

    def hold(self) -> JobError | None:
        """Answer; None when the child is done, else why not, with `crashed` for no reason."""
        try:
            while (message := wire.receive(self._pipe))["kind"] != "done":
                if message["kind"] == "error":
                    code = wire.text(message, "code")
                    return JobError(
                        code if code in STATUS_OF else "internal", wire.text(message, "message")
                    )
                self._answer(message)
        except JobError as error:
            return error
        except (EOFError, OSError):
            return JobError("crashed", "")
        except wire.WireError:
            return JobError("internal", "the process of the job does not keep to its protocol")
        return None

    def _answer(self, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "progress":
            done, total = (wire.whole_number(message, n, 0, 2**53) for n in ("done", "total"))
            self._tell(wire.text(message, "what")[:80], done, total)
        elif kind == "held":
            layers = message.get("layers")
            self._held([str(x)[:20] for x in layers[:8]] if isinstance(layers, list) else [])
        elif kind in ("score", "explain"):
            self._ask(kind, message)
        else:
            raise wire.WireError("the message is of no known kind")

    def _ask(self, kind: str, message: dict[str, Any]) -> None:
        number = wire.whole_number(message, "scorer", 0, len(self._networks) - 1)
        network = self._networks[number]
        count = wire.whole_number(message, "clips", 1, _MAX_CLIPS)
        clips = wire.receive_array(self._pipe, (count, *network.spec.clip_shape), np.uint8)
        if kind == "explain":
            if not network.explains:
                raise wire.WireError("this network cannot explain")
            maps = _by_network(network.explain_clips, clips).astype(np.float32)
            wire.send(self._pipe, {"kind": "maps", "shape": maps.shape}, maps)
            return
        clip, frame = _by_network(network.score_clips, clips)
        arrays = [clip.astype(np.float64)]
        arrays += [] if frame is None else [frame.astype(np.float64)]
        wire.send(self._pipe, {"kind": "scores", "frames": frame is not None}, *arrays)


def _by_network(function: Callable[[Any], Any], clips: Any) -> Any:
    try:
        return function(clips)
    except Exception as error:  # of a library on some device: this job's error, not the server's
        raise JobError("internal", f"the network ended with {type(error).__name__}") from error
