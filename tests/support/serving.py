"""Stand-ins for the tests of the server: a network without weights, children that misbehave."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import resource
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.predicting.scorer import ClipScores, ClipSpec, ModelFacts
from lightning_modules.pooling import Pooling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from experiments.predicting.scorer import ClipScorer
    from experiments.serving.child import Tell

_PROJECT = Path(__file__).parents[2]
SPEC = ClipSpec(
    name="stand_in",
    method="StandIn",
    num_frames=4,
    image_size=32,
    alignment="clip",
    frame_rule=None,
    video_rule=Pooling(),
    spread=None,
    batch=8,
    facts=ModelFacts("/srv/runs/stand_in", "best.ckpt", "0" * 64),
)


class StandIn:
    """Scores a clip by its mean grey level, and remembers its batches.

    Args:
        wait_s: Seconds that a batch takes.
        ready: Whether it works at all.
        no_maps: Why it cannot explain; empty where it can.
    """

    spec = SPEC

    def __init__(self, wait_s: float = 0.0, ready: bool = True, no_maps: str = "") -> None:
        self.no_maps = no_maps
        self.batches: list[int] = []
        self._wait_s = wait_s
        self._ready = ready

    def score_clips(self, clips: NDArray[np.uint8]) -> ClipScores:
        if not self._ready:
            raise RuntimeError("out of order")
        self.batches.append(len(clips))
        time.sleep(self._wait_s)
        return ClipScores(clips.mean((1, 2, 3, 4)) / 128 - 1, None)

    def explain_clips(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        return clips.mean(4).astype(np.float32)[:, :, ::8, ::8]


def clips(count: int, level: int) -> NDArray[np.uint8]:
    return np.full((count, *SPEC.clip_shape), level, np.uint8)


def misbehave(
    video: Path, folder: Path, scorers: Sequence[ClipScorer], options: dict[str, Any], tell: Tell
) -> None:
    """Do with a video what the options say; the names are those of the functions below."""
    globals()[f"_{options['how']}"](folder, scorers, tell)


def quick(
    video: Path, folder: Path, scorers: Sequence[ClipScorer], options: dict[str, Any], tell: Tell
) -> None:
    """Score two clips in no time and write a small report."""
    tell("scoring", 1, 2)
    found = scorers[0].score_clips(clips(2, options.get("level", 128)))
    time.sleep(options.get("wait_s", 0.0))
    write_small_report(folder, found.clip.tolist())


def tell_facts(
    video: Path, folder: Path, scorers: Sequence[ClipScorer], options: dict[str, Any], tell: Tell
) -> None:
    """Report where the first network comes from, as a child knows it."""
    facts = scorers[0].spec.facts
    write_small_report(folder, {"source": facts.source, "code": facts.code})


def tell_explainers(
    video: Path, folder: Path, scorers: Sequence[ClipScorer], options: dict[str, Any], tell: Tell
) -> None:
    """Report which of the networks explain, as a child knows it."""
    write_small_report(folder, [hasattr(scorer, "explain_clips") for scorer in scorers])


def write_small_report(folder: Path, scores: Any) -> None:
    report = {"schema_version": 1, "status": "ok", "scores": scores}
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    (folder / "annotated.mp4").write_bytes(bytes(range(256)) * 40)


def _score(folder: Path, scorers: Sequence[ClipScorer], tell: Tell) -> None:
    tell("finding faces", 1, 0)
    found = scorers[0].score_clips(clips(3, 192))
    maps = scorers[0].explain_clips(clips(2, 7))  # type: ignore[attr-defined]
    write_small_report(folder, [found.clip.tolist(), maps.shape, float(maps.mean())])


def _crash(folder: Path, scorers: Sequence[ClipScorer], tell: Tell) -> None:
    ctypes.string_at(0)


def _abort(folder: Path, scorers: Sequence[ClipScorer], tell: Tell) -> None:
    os.abort()


def _leave(folder: Path, scorers: Sequence[ClipScorer], tell: Tell) -> None:
    os._exit(0)


def _hang(folder: Path, scorers: Sequence[ClipScorer], tell: Tell) -> None:
    time.sleep(1000)


def _spin(folder: Path, scorers: Sequence[ClipScorer], tell: Tell) -> None:
    while True:
        pass


def _eat(folder: Path, scorers: Sequence[ClipScorer], tell: Tell) -> None:
    kept = []
    while True:
        kept.append(np.ones(2**22))


def _fill(folder: Path, scorers: Sequence[ClipScorer], tell: Tell) -> None:
    with (folder / "large").open("wb") as file:
        while True:
            file.write(bytes(2**20))


def _raise(folder: Path, scorers: Sequence[ClipScorer], tell: Tell) -> None:
    raise KeyError("a secret of the file")


def _reach_out(folder: Path, scorers: Sequence[ClipScorer], tell: Tell) -> None:
    got = []
    for name, attempt in (
        ("inet", lambda: socket.socket(socket.AF_INET)),
        ("unix", lambda: socket.socket(socket.AF_UNIX)),
        ("fork", os.fork),
        ("execute", lambda: os.execv("/bin/true", ["true"])),
        ("signal", lambda: os.kill(os.getppid(), 0)),
        ("read", lambda: open("/etc/passwd", "rb")),  # noqa: PTH123, SIM115
        ("write", lambda: open("/tmp/outside", "wb")),  # noqa: PTH123, SIM115
        ("above", lambda: os.listdir(folder.parent.parent)),  # noqa: PTH208
        ("project", lambda: os.listdir(_PROJECT)),  # noqa: PTH208
        ("setup", lambda: open(_PROJECT / "setup.cfg")),  # noqa: PTH123, SIM115
        ("limits", lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU)),
        ("priority", lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)),
        ("cores", lambda: os.sched_setaffinity(os.getppid(), os.sched_getaffinity(0))),
        ("own", lambda: fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())),
        ("own64", lambda: _fcntl_of_64_bits(fcntl.F_SETOWN, os.getppid())),
        ("rights", lambda: (folder.parent / "v.mp4").chmod(0o600)),
        ("times", lambda: os.utime(folder.parent)),
        ("memory", _share_memory),
        ("pipes", _find_pipes),
    ):
        try:
            attempt()
        except PermissionError:
            continue
        got.append(name)
    write_small_report(folder, got)


def _fcntl_of_64_bits(command: int, value: int) -> None:
    """Set bits of the command that the kernel drops and that a filter may stumble over."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = 72 if platform.machine() == "x86_64" else 25  # asm/unistd.h
    _raise_if(libc.syscall(ctypes.c_long(number), 0, ctypes.c_long(command | 1 << 32), value) < 0)


def _share_memory() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _raise_if(libc.shmget(0, 4096, 0o1600) < 0)


def _raise_if(failed: bool) -> None:
    if failed:
        raise OSError(ctypes.get_errno(), "refused")


def _find_pipes() -> None:
    """Look for ways to other processes beside the one to the parent."""
    modes = []
    for number in range(3, 64):
        with suppress(OSError):
            modes.append(os.fstat(number).st_mode)
    found = [m for m in modes if stat.S_ISFIFO(m) or stat.S_ISSOCK(m)]
    if len(found) == 1:
        raise PermissionError


class _Liar:
    """Speaks to the parent past its own side of the protocol."""

    def __init__(self, scorers: Sequence[ClipScorer]) -> None:
        self.pipe = scorers[0]._channel._pipe  # type: ignore[attr-defined]


def _lie_pickle(folder: Path, scorers: Sequence[ClipScorer], tell: Tell) -> None:
    _Liar(scorers).pipe.send({"kind": "done"})
    time.sleep(1000)


def _lie_size(folder: Path, scorers: Sequence[ClipScorer], tell: Tell) -> None:
    pipe = _Liar(scorers).pipe
    pipe.send_bytes(json.dumps({"kind": "score", "scorer": 0, "clips": 2}).encode())
    pipe.send_bytes(b"x" * 100)
    time.sleep(1000)


def _lie_scorer(folder: Path, scorers: Sequence[ClipScorer], tell: Tell) -> None:
    pipe = _Liar(scorers).pipe
    pipe.send_bytes(json.dumps({"kind": "score", "scorer": 7, "clips": 2}).encode())
    time.sleep(1000)


def _lie_long(folder: Path, scorers: Sequence[ClipScorer], tell: Tell) -> None:
    _Liar(scorers).pipe.send_bytes(b"{" * 10**6)
    time.sleep(1000)


def _lie_half(folder: Path, scorers: Sequence[ClipScorer], tell: Tell) -> None:
    os.write(_Liar(scorers).pipe.fileno(), b"\x00\x00\x10\x00{")  # a length, and less than that
    time.sleep(1000)
