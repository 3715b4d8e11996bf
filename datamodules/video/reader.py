"""Videos: which decoder reads a file exactly, and readers of its frames.

A video is a file, or a folder of pictures. decord is fast, and on some files gives a neighbour of
the frame asked for (seen with decord2 3.4: open GOPs, HEVC, edit lists, MPEG-TS, gradual refresh,
B-frames in AVI). `probe_video` therefore looks at each file once and names the decoder that is
exact on it; `open_video` opens it by that name. What no decoder reads is refused with one line
that says why.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.video.decord_reader import DecordReader
from datamodules.video.frames_reader import (
    FramesPrefixReader,
    FramesReader,
    frame_files,
    is_frames,
    probe_frames,
)
from datamodules.video.info import ASSUMED_FPS, VideoInfo
from datamodules.video.lazy_reader import VideoReader
from datamodules.video.libav import DamagedVideoError
from datamodules.video.packets import PacketScan, frame_rate, scan_packets, undamaged_frames
from datamodules.video.pyav_reader import PyavPrefixReader, PyavReader

__all__ = [
    "DECODERS",
    "DamagedVideoError",
    "VideoInfo",
    "VideoReader",
    "file_sha256",
    "frame_times",
    "open_video",
    "prefix_decoder",
    "probe_video",
]

#: Readers by the name that `VideoInfo.decoder` and a manifest keep.
DECODERS: dict[str, Callable[[Path, int | None], VideoReader]] = {
    "decord": DecordReader,
    "pyav": PyavReader,
    "pyav_prefix": PyavPrefixReader,
    "frames": FramesReader,
    "frames_prefix": FramesPrefixReader,
}
_FRAME_DECODERS = {"frames": FramesReader, "frames_prefix": FramesPrefixReader}

#: Videos up to this many pixels in all are decoded once from end to end while probing, longer
#: ones in samples [ours]: 960 frames of 1920x1080, 4 s of one core.
_FULL_LOOK_PIXELS = 2e9

#: Seconds after which decord counts as hanging on the sample frames [ours].
_DECORD_PATIENCE_S = 60.0

#: Pixels of a sample picture that are compared, and the mean difference in grey levels that
#: converting colours may make (10-bit video differs by 0.3) [ours].
_SAMPLE_PIXELS = 65536
_SAMPLE_TOLERANCE = 1.0

#: Bytes of all pictures of a video that decord may read: its decoding thread runs ahead without
#: a limit (seen: 3 GB for 20 s of 1920x1080), and PyAV reads in order as fast [ours].
_MOST_DECORD_BYTES = 512 * 2**20

#: Key frames that are entered at while probing [ours].
_MOST_KEYS = 16


@dataclass(frozen=True)
class _Look:
    """What decoding showed: strided pictures of sample frames, and the whole or assumed length."""

    times_s: NDArray[np.float64]
    height: int
    width: int
    pictures: dict[int, NDArray[np.uint8]]


def open_video(
    path: Path | str,
    decoder: str = "decord",
    num_frames: int | None = None,
    frames: Sequence[str] = (),
) -> VideoReader:
    """Make a reader; it opens the file at first use, in the process that uses it.

    Args:
        path: The file, or the folder of frames.
        decoder: What `probe_video` named for this file.
        num_frames: What `probe_video` counted, if known: spares counting again, and a file that
            has changed since is noticed.
        frames: Names of the pictures of a folder that belong to the video; all unless given.

    Returns:
        The reader. Close it, or use it in a `with` statement.

    Raises:
        DataError: There is no such decoder.
    """
    if decoder not in DECODERS:
        raise DataError(f"no decoder is called {decoder!r}; there are: {', '.join(DECODERS)}")
    if decoder in _FRAME_DECODERS:
        return _FRAME_DECODERS[decoder](path, num_frames, frames)
    return DECODERS[decoder](Path(path), num_frames)


def prefix_decoder(decoder: str) -> str:
    """Name what reads the frames before the damage that a decoder came upon."""
    return "frames_prefix" if decoder in _FRAME_DECODERS else "pyav_prefix"


def probe_video(
    path: Path | str, allow_damaged: bool = False, frames: Sequence[str] = ()
) -> VideoInfo:
    """Look at a file once: what it holds, whether it is whole, and which decoder is exact on it.

    Short videos are decoded from end to end; of long ones (2 gigapixels in all) the packets and
    some samples are looked at, so that damage in between shows only when it is read.

    Args:
        path: The file, or the folder of frames.
        allow_damaged: Whether to accept the frames before the first damage of a damaged file.
        frames: Names of the pictures of a folder that belong to the video; all unless given.

    Returns:
        The facts to keep in a manifest.

    Raises:
        DataError: The file is missing, unreadable, without video, or damaged.
    """
    path = Path(path)
    if is_frames(path):
        return probe_frames(frame_files(path, frames), allow_damaged)
    return _probe_file(path, allow_damaged)


def _probe_file(path: Path, allow_damaged: bool) -> VideoInfo:
    scan = scan_packets(path)
    damage = ""
    try:
        look = _look(path, scan)
    except DamagedVideoError as error:
        if not (allow_damaged and error.good_frames):
            raise
        damage = str(error)
        look = _look_fully(path, scan, prefix=True)
    if damage:
        decoder, reason = "pyav_prefix", "the file is damaged"
    else:
        reason = (
            _inexact(scan, look)
            or _too_large(look)
            or _within(_DECORD_PATIENCE_S, lambda: _differing(path, _samples(scan), look))
        )
        decoder = "pyav" if reason else "decord"
    fps = frame_rate(look.times_s, scan.declared_fps)
    return VideoInfo(
        num_frames=len(look.times_s),
        fps=fps,
        height=look.height,
        width=look.width,
        decoder=decoder,
        duration_s=float(look.times_s[-1]) + (1 / fps if fps else 0.0),
        sha256=file_sha256(path),
        reason=reason,
        damage=damage,
        timestamps_s=look.times_s,
    )


def _too_large(look: _Look) -> str:
    """Say if decord would take too much memory, which it fills ahead of who reads slowly."""
    num_bytes = len(look.times_s) * look.height * look.width * 3
    if num_bytes <= _MOST_DECORD_BYTES:
        return ""
    return f"decord may hold all of its {num_bytes / 2**20:.0f} MiB of pictures at once"


def frame_times(path: Path | str, num_frames: int) -> NDArray[np.float64]:
    """Read when each frame is shown, without decoding where the container tells it.

    Args:
        path: The file.
        num_frames: What `probe_video` counted.

    Returns:
        Seconds after the first frame, shape (num_frames,), float64.

    Raises:
        DataError: The file is unreadable or has fewer frames.
    """
    path = Path(path)
    if is_frames(path):
        return np.arange(num_frames) / ASSUMED_FPS
    scan = scan_packets(path)
    if scan.exact and len(scan.pts) == num_frames:
        return scan.times_s
    times = _look_fully(path, scan, prefix=True).times_s
    if len(times) < num_frames:
        raise DataError(
            f"{path}: has {len(times)} frames where {num_frames} were counted before; "
            "the file has changed: prepare it again"
        )
    return times[:num_frames]


def file_sha256(path: Path) -> str:
    """Hash a file piece by piece.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def _look(path: Path, scan: PacketScan) -> _Look:
    short = scan.num_packets * scan.frame_pixels <= _FULL_LOOK_PIXELS
    if scan.exact and not scan.missing and not short:
        try:
            return _look_at_samples(path, scan)
        except DataError:
            # the whole look will say what is wrong, if anything is
            pass
    return _look_fully(path, scan, prefix=False)


def _look_at_samples(path: Path, scan: PacketScan) -> _Look:
    with PyavReader(path, len(scan.pts)) as reader:
        pictures = {i: _strided(reader.read([i])[0]) for i in sorted(_with_neighbours(scan))}
        return _Look(scan.times_s, reader.height, reader.width, pictures)


def _look_fully(path: Path, scan: PacketScan, prefix: bool) -> _Look:
    wanted = _with_neighbours(scan)
    pictures: dict[int, NDArray[np.uint8]] = {}
    pts: list[int | None] = []
    size = (0, 0)
    stored: tuple[int, int] | None = None
    for stream, frame in undamaged_frames(path, scan, prefix):
        if stored is None or len(pts) in wanted:
            picture = stream.rgb(frame)
            size = picture.shape[:2]
            pictures[len(pts)] = _strided(picture)
        stored = stored or (frame.width, frame.height)
        if stored != (frame.width, frame.height):
            raise DataError(
                f"{path}: its picture changes from {stored[0]}x{stored[1]} to "
                f"{frame.width}x{frame.height} at frame {len(pts)}; convert it to one size"
            )
        pts.append(frame.pts)
    if not pts:
        raise DataError(f"{path}: holds no frame that decodes; copy or download it again")
    return _Look(_times(pts, scan), *size, pictures)


def _times(pts: list[int | None], scan: PacketScan) -> NDArray[np.float64]:
    known = [p for p in pts if p is not None]
    if len(known) == len(pts) and all(b > a for a, b in pairwise(known)):
        return np.asarray((np.array(known) - known[0]) * scan.time_base, np.float64)
    # without times, players show frames at the declared rate
    return np.arange(len(pts)) / (scan.declared_fps or ASSUMED_FPS)


def _strided(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    step = max(1, int(np.sqrt(picture.shape[0] * picture.shape[1] / _SAMPLE_PIXELS)))
    small: NDArray[np.uint8] = picture[::step, ::step].copy()
    return small


def _samples(scan: PacketScan) -> list[int]:
    """Choose frames to compare, in an order that makes a decoder jump, four long jumps at most.

    Wrong frames lie around key frames: just before one, at it, and after entering at it. Entering
    at a key frame costs one picture, so many are tried.
    """
    last = max(len(scan.pts), 1) - 1
    keys = np.searchsorted(scan.pts, scan.key_pts)
    inner = keys[(keys > 1) & (keys < last)]
    order = [last * 3 // 5, last]
    for share in (2, 1):
        key = int(inner[len(inner) * share // 3]) if len(inner) else last * share // 3
        order += [key + 1, key - 1, key]
    some = np.linspace(len(keys) - 1, 0, min(len(keys), _MOST_KEYS)).round().astype(int)
    order += keys[some].tolist()
    return list(dict.fromkeys(min(max(i, 0), last) for i in order))


def _with_neighbours(scan: PacketScan) -> set[int]:
    last = max(len(scan.pts), 1) - 1
    return {min(max(i + d, 0), last) for i in _samples(scan) for d in (-1, 0, 1)}


def _inexact(scan: PacketScan, look: _Look) -> str:
    """Say by what trait of the file decord cannot be trusted on it, or nothing."""
    traits = {
        "an edit list hides frames": scan.hidden > 0,
        "frames are shown before the key frame that they follow (open GOP)": scan.leading > 0,
        # gives neighbouring frames or raises in the middle, depending on the encoder
        "HEVC": scan.codec == "hevc",
        "the container does not tell the time of each frame": not scan.exact,
        "not every packet gives a frame": len(scan.pts) != len(look.times_s),
    }
    return next((trait for trait, present in traits.items() if present), "")


def _differing(path: Path, order: list[int], look: _Look) -> str:
    """Compare decord's sample frames with the exact ones.

    Returns:
        What differs, or an empty string.
    """
    try:
        with DecordReader(path, len(look.times_s)) as reader:
            for index in order:
                if not _same(_strided(reader.read([index])[0]), index, look.pictures):
                    return f"decord gives another frame for number {index}"
    except (DataError, ImportError, IndexError) as error:
        return f"decord refuses it: {str(error).removeprefix(f'{path}: ')}"
    return ""


def _same(picture: NDArray[np.uint8], index: int, truth: dict[int, NDArray[np.uint8]]) -> bool:
    def distance(other: int) -> float:
        return float(np.abs(picture.astype(np.int16) - truth[other]).mean())

    if picture.shape != truth[index].shape:
        return False
    own = distance(index)
    others = [distance(i) for i in (index - 1, index + 1) if i in truth]
    return own == 0 or (own < _SAMPLE_TOLERANCE and all(own < other for other in others))


def _within(seconds: float, work: Callable[[], str]) -> str:
    """Do some work that may hang; a thread that does is left behind.

    Returns:
        What the work returns, or that it took too long.
    """
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(work()), daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return f"decord gave no answer within {seconds:.0f} s"
