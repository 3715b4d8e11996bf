"""What a video file says of itself before anything is decoded: its packets and their times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.video.libav import (
    DamagedVideoError,
    FrameStream,
    open_container,
    short_reason,
    video_stream,
)

#: Containers that store when each frame is shown and where one may enter [ours, by trial:
#: AVI, MPEG-PS and MPEG-TS give times of decoding or land elsewhere].
_EXACT_FORMATS = frozenset({"mov", "matroska"})

#: A file that ends this much before its declared end is cut off [ours]: seconds and share.
_MISSING_S = 0.5
_MISSING_SHARE = 0.05


@dataclass(frozen=True)
class PacketScan:
    """What demuxing a file tells, before anything is decoded. N shown frames.

    Attributes:
        pts: Times of the shown frames, ascending, in units of `time_base`, shape (N,), int64;
            empty where the container does not tell them.
        key_pts: Times of the frames at which decoding may start, ascending, shape (K,), int64.
        time_base: Seconds of one unit.
        num_packets: Coded pictures in the file.
        hidden: Coded pictures that an edit list hides.
        leading: Pictures shown before the key frame that they follow in the file.
        exact: Whether `pts` names every frame, so that frames can be found by their time.
        declared_fps: Frames a second as the container says, 0 where it does not.
        declared_frames: Number of frames as the container says, 0 where it does not.
        codec: Name of the decoder.
        frame_pixels: Pixels of a frame.
        missing: What the end of the file lacks, or an empty string.
        last_dts: Largest time of decoding: in a file that is cut off, frames shown later than
            that may lack a neighbour.
    """

    pts: NDArray[np.int64]
    key_pts: NDArray[np.int64]
    time_base: float
    num_packets: int
    hidden: int
    leading: int
    exact: bool
    declared_fps: float
    declared_frames: int
    codec: str
    frame_pixels: int
    missing: str
    last_dts: int

    @property
    def times_s(self) -> NDArray[np.float64]:
        """Times of the frames after the first one in seconds, shape (N,), float64."""
        return np.asarray((self.pts - self.pts[:1]) * self.time_base, np.float64)

    @property
    def expected_frames(self) -> int:
        """Frames that the file promises."""
        if self.hidden:
            # an edit list may leave whole packets out, so that the declared number is too large
            return self.num_packets - self.hidden
        return max(self.declared_frames, self.num_packets)


def scan_packets(path: Path) -> PacketScan:
    """Demux a whole file without decoding anything: a matter of milliseconds a minute.

    Args:
        path: The file.

    Returns:
        What its packets tell.

    Raises:
        DataError: There is no such file, or it holds no video.
    """
    import av

    with open_container(path) as container:
        stream = video_stream(container, path)
        tally = _Tally(stream.index)
        error = ""
        try:
            for packet in container.demux():
                tally.count(packet)
        except av.error.FFmpegError as failure:
            error = short_reason(failure)
        pts = np.array(sorted(p for p in tally.shown if p is not None), np.int64)
        complete = len(pts) == len(tally.shown) == len(np.unique(pts)) > 0
        intra_only = len(tally.keys) == tally.packets
        known = container.format.name.split(",")[0] in _EXACT_FORMATS
        return PacketScan(
            pts=pts if complete else pts[:0],
            key_pts=np.array(sorted(tally.keys), np.int64),
            time_base=float(stream.time_base),
            num_packets=tally.packets,
            hidden=tally.packets - len(tally.shown),
            leading=tally.leading,
            exact=bool(complete and (known or intra_only)),
            declared_fps=float(stream.average_rate or 0),
            declared_frames=int(stream.frames),
            codec=str(stream.codec_context.name),
            frame_pixels=stream.codec_context.width * stream.codec_context.height,
            missing=error or tally.missing_end(container, stream),
            last_dts=tally.last_dts,
        )


class _Tally:
    """What is counted while demuxing."""

    def __init__(self, stream_index: int) -> None:
        self._index = stream_index
        self.packets = 0
        self.shown: list[int | None] = []
        self.keys: list[int] = []
        self.leading = 0
        self.last_dts = 0
        self.cut = False
        self.end_s: dict[int, float] = {}

    def count(self, packet: Any) -> None:
        """Note how far the packet's stream reaches, and more of a packet of the video."""
        pts = packet.pts
        if pts is not None and packet.time_base:
            end = float((pts + (packet.duration or 0)) * packet.time_base)
            index = packet.stream_index
            self.end_s[index] = max(end, self.end_s.get(index, 0.0))
        if packet.stream_index == self._index and packet.size:
            self._count_picture(packet, pts)

    def _count_picture(self, packet: Any, pts: int | None) -> None:
        self.packets += 1
        self.cut |= packet.is_corrupt
        self.last_dts = max(self.last_dts, packet.dts or 0)
        if packet.is_keyframe and pts is not None:
            self.keys.append(pts)
        self.leading += bool(self.keys and pts is not None and pts < self.keys[-1])
        if not packet.is_discard:
            self.shown.append(pts)

    def missing_end(self, container: Any, stream: Any) -> str:
        """Compare the last packet with the declared duration.

        Returns:
            What is missing, or an empty string.
        """
        if stream.duration is not None:
            declared = float(stream.duration * stream.time_base)
            reached = self.end_s.get(self._index, 0.0)
        else:
            # Matroska declares one duration for all streams, in microseconds
            declared = (container.duration or 0) / 1e6
            reached = max(self.end_s.values(), default=0.0)
        if declared - reached > max(_MISSING_S, _MISSING_SHARE * declared):
            return f"ends at {reached:.2f} s of {declared:.2f} s"
        return "its last packet is cut off" if self.cut else ""


def undamaged_frames(
    path: Path, scan: PacketScan, prefix: bool
) -> Iterator[tuple[FrameStream, Any]]:
    """Decode a file from its start.

    Args:
        path: The file.
        scan: What `scan_packets` said of it.
        prefix: Whether to end before the first damage instead of raising.

    Yields:
        The stream, whose `rgb` makes a picture, and a PyAV frame.

    Raises:
        DamagedVideoError: At the first damage, naming how many frames came before.
    """
    stream = FrameStream(path)
    succession = _Succession(scan)
    count = 0
    try:
        for frame in stream:
            if prefix and scan.missing and frame.pts is not None and frame.pts > scan.last_dts:
                return
            succession.check(frame.pts)
            yield stream, frame
            count += 1
        succession.check_end()
    except DamagedVideoError as error:
        if not prefix:
            raise DamagedVideoError(
                f"{path}: is damaged, decodes {count} of {scan.expected_frames} frames "
                f"({scan.missing or error}); copy or download it again"
                + (", or allow damaged files to use what comes before" if count else ""),
                count,
            ) from error
    finally:
        stream.close()


class _Succession:
    """Notice frames that a decoder left out without a word, as that of HEVC may."""

    def __init__(self, scan: PacketScan) -> None:
        self._missing_end = scan.missing
        # VP8 has packets that only later frames refer to
        self._pts = scan.pts if scan.exact and scan.codec != "vp8" else scan.pts[:0]
        self._next: int | None = None

    def check(self, pts: int | None) -> None:
        """Compare the time of the next frame; only at the start may frames be missing.

        Raises:
            DamagedVideoError: A frame before it did not come.
        """
        if pts is None or not len(self._pts):
            return
        if self._next is None:
            self._next = int(np.searchsorted(self._pts, pts))
        if self._next < len(self._pts) and pts > self._pts[self._next]:
            raise DamagedVideoError("frames in between are lost", 0)
        self._next += 1

    def check_end(self) -> None:
        """Ask at the end of the stream whether anything was to come.

        Raises:
            DamagedVideoError: So it was.
        """
        if self._missing_end:
            raise DamagedVideoError(self._missing_end, 0)
        if self._next is not None and self._next < len(self._pts):
            raise DamagedVideoError("its last frames are lost", 0)


def frame_rate(times_s: NDArray[np.float64], declared_fps: float) -> float:
    """Choose between the declared frame rate and what the times of the frames say.

    Args:
        times_s: Times of the frames in seconds, ascending, shape (N,), float64.
        declared_fps: What the container says, 0 for nothing.

    Returns:
        `declared_fps` where the times agree within 1 % [ours] (times are rounded, in WebM to
        milliseconds), else the mean rate of the times; 0 where nothing is known.
    """
    span = float(times_s[-1] - times_s[0]) if len(times_s) > 1 else 0.0
    if span <= 0:
        return declared_fps
    measured = (len(times_s) - 1) / span
    return declared_fps if abs(declared_fps / measured - 1) < 0.01 else measured
