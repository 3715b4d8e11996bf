"""The child process of a job: it alone opens the file, with next to no rights and no weights.

It runs the same functions as `experiments.predict`; the networks are in its parent, behind a pipe.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from experiments.errors import UsageError
from experiments.predicting.scorer import ClipScorer, ClipScores, ClipSpec
from experiments.serving import wire
from experiments.serving.limits import LimitError, VideoLimits, check_video
from experiments.serving.sandbox import ProcessLimits, confine
from weights.errors import WeightsError

Tell = Callable[[str, int, int], None]
#: What a child does with a video: the file, the folder for the results, scorers, options, progress.
Task = Callable[[Path, Path, Sequence[ClipScorer], dict[str, Any], Tell], None]


def nothing(
    video: Path, folder: Path, scorers: Sequence[ClipScorer], options: dict[str, Any], tell: Tell
) -> None:
    """Stand for a task of which the child only shows that it starts; no video is needed."""


@dataclass(frozen=True)
class Order:
    """What a child is to do.

    Attributes:
        task: Scores the video; a function at the top of a module.
        video: The file.
        folder: Where the results go, an empty folder.
        scratch: Where libraries may put temporary files.
        specs: Of the networks of the parent.
        explains: Whether each of them can explain.
        options: For the task.
        video_limits: What the video may be.
        limits: What the child may use.
    """

    task: Task
    video: Path
    folder: Path
    scratch: Path
    specs: tuple[ClipSpec, ...]
    explains: tuple[bool, ...]
    options: dict[str, Any] = field(default_factory=dict)
    video_limits: VideoLimits = field(default_factory=VideoLimits)
    limits: ProcessLimits = field(default_factory=ProcessLimits)


class DistantScorer:
    """A network of the parent process.

    Args:
        channel: To the parent.
        number: Which of its networks.
        spec: Of that one.
    """

    def __init__(self, channel: Channel, number: int, spec: ClipSpec) -> None:
        self._channel = channel
        self._number = number
        self._spec = spec

    @property
    def spec(self) -> ClipSpec:
        """What clips it takes, and how its scores are read."""
        return self._spec

    def score_clips(self, clips: NDArray[np.uint8]) -> ClipScores:
        """Score clips, shape (B, T, H, W, 3), uint8."""
        with self._channel.asking("score", self._number, clips) as (pipe, answer):
            clip = wire.receive_array(pipe, (len(clips),), np.float64)
            if not answer["frames"]:
                return ClipScores(clip, None)
            shape = (len(clips), self._spec.num_frames)
            return ClipScores(clip, wire.receive_array(pipe, shape, np.float64))


class DistantExplainer(DistantScorer):
    """A network of the parent process that can explain."""

    no_maps = ""

    def explain_clips(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map clips, shape (B, T, H, W, 3), uint8; maps of shape (B, T, h, w), float32."""
        with self._channel.asking("explain", self._number, clips) as (pipe, answer):
            return wire.receive_array(pipe, answer["shape"], np.float32)


class Channel:
    """The pipe to the parent, for one thread at a time.

    Args:
        pipe: To the parent.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def asking(self, kind: str, number: int, clips: NDArray[np.uint8]) -> _Asking:
        """Send clips; the block gets the pipe and the head of the answer."""
        return _Asking(self._pipe, self._lock, {"kind": kind, "scorer": number}, clips)

    def say(self, **message: Any) -> None:
        """Tell something that needs no answer."""
        with self._lock:
            wire.send(self._pipe, message)


class _Asking:
    def __init__(
        self,
        pipe: Connection,
        lock: threading.Lock,
        message: dict[str, Any],
        clips: NDArray[np.uint8],
    ) -> None:
        self._pipe, self._lock, self._message, self._clips = pipe, lock, message, clips

    def __enter__(self) -> tuple[Connection, dict[str, Any]]:
        self._lock.acquire()
        try:
            wire.send(self._pipe, {**self._message, "clips": len(self._clips)}, self._clips)
            return self._pipe, wire.receive(self._pipe)
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def run_child(pipe: Connection, order: Order) -> None:
    """Do what is ordered and say how it ended; the main function of the child process.

    Args:
        pipe: To the parent.
        order: What to do.
    """
    _silence()
    _close_others(pipe.fileno())
    channel = Channel(pipe)
    try:
        tempfile.tempdir = str(order.scratch)
        held = confine(order.limits, [order.video], [order.folder, order.scratch])
        channel.say(kind="held", layers=held)
        _work(channel, order)
        channel.say(kind="done")
    except (BrokenPipeError, EOFError):
        pass  # nobody waits any more
    except BaseException as error:  # whatever it is, it is told in one line
        with suppress(OSError):
            channel.say(kind="error", **_told(error, order.video))
    # not through the interpreter's end: threads of libraries may hang in a damaged file
    os._exit(0)


def _work(channel: Channel, order: Order) -> None:
    import cv2

    cv2.setNumThreads(order.limits.threads)
    if order.task is nothing:
        return
    check_video(order.video, order.video_limits)
    scorers = [
        (DistantExplainer if explains else DistantScorer)(channel, number, spec)
        for number, (spec, explains) in enumerate(zip(order.specs, order.explains, strict=True))
    ]

    def tell(what: str, done: int, total: int) -> None:
        channel.say(kind="progress", what=what, done=int(done), total=int(total))

    order.task(order.video, order.folder, scorers, order.options, tell)


def _silence() -> None:
    """Send what libraries print of a stranger's file to nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)


def _close_others(ours: int) -> None:
    """Close pipes and sockets but our own: those of the server of forks lead to its helpers."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        number = int(entry.name)
        with suppress(OSError):  # the listing's own is closed already
            mode = os.fstat(number).st_mode
            if number != ours and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
                os.close(number)


def _told(error: BaseException, video: Path) -> dict[str, str]:
    if isinstance(error, MemoryError) or "alloc" in str(error).lower():
        return {"code": "too_much_memory", "message": "the video takes more memory than is allowed"}
    if isinstance(error, DataError | UsageError):
        message = str(error).replace(f"{video}: ", "").replace(str(video), "the video")
        return {"code": "over_limits" if isinstance(error, LimitError) else "unreadable"} | {
            "message": message
        }
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return {"code": "over_limits", "message": "the results are larger than is allowed"}
    if isinstance(error, WeightsError):
        return {"code": "internal", "message": str(error).replace(str(video), "the video")}
    # the text of an unexpected error may hold anything of the file
    return {"code": "internal", "message": f"scoring ended with {type(error).__name__}"}
