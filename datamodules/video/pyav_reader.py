"""The exact reader: PyAV, checking every frame against the times in the container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.video.lazy_reader import LazyReader, check_count
from datamodules.video.libav import DamagedVideoError, FrameStream
from datamodules.video.packets import PacketScan, frame_rate, scan_packets, undamaged_frames


class _AstrayError(Exception):
    """The stream does not go by its own times."""


class PyavReader(LazyReader[FrameStream]):
    """Read by PyAV: slower, and exact on every file.

    A frame is found by its time, and every frame on the way to it is held against the times in
    the container; where they disagree, frames are counted from the start.

    Args:
        path: The file.
        num_frames: What `probe_video` counted.
    """

    #: Whether to end before the first damage instead of raising.
    prefix = False

    def __init__(self, path: Path | str, num_frames: int | None = None) -> None:
        super().__init__(path, num_frames)
        self._counted = num_frames
        self._known: PacketScan | None = None
        self._next = 0

    def _open(self) -> FrameStream:
        self._next = 0
        return FrameStream(self._path)

    def _release(self, handle: FrameStream) -> None:
        handle.close()

    # has no threads, and closing it leaves the file of the parent process open
    _forget = _release

    @property
    def _scan(self) -> PacketScan:
        if self._known is None:
            self._known = scan_packets(self._path)
        return self._known

    @property
    def num_frames(self) -> int:
        """Number of frames; decodes the file once where packets do not tell it."""
        if self._counted is None:
            scan = self._scan
            if scan.exact and not scan.missing and not self.prefix:
                self._counted = len(scan.pts)
            else:
                self._counted = sum(1 for _ in undamaged_frames(self._path, scan, self.prefix))
        return self._counted

    @property
    def fps(self) -> float:
        """Mean number of frames a second, 0 where the file does not tell."""
        return frame_rate(self._scan.times_s, self._scan.declared_fps)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        # a stream of its own, so that `read` may be called in between
        count = 0
        for stream, frame in undamaged_frames(self._path, self._scan, self.prefix):
            yield self._upright(stream, frame, count)
            count += 1
        check_count(self._path, count, self._promised)

    def _upright(self, stream: FrameStream, frame: Any, index: int) -> NDArray[np.uint8]:
        picture = stream.rgb(frame)
        height, width = picture.shape[:2]
        self._shape = self._shape or (height, width)
        if self._shape != (height, width):
            raise DataError(
                f"{self._path}: its picture changes from {self._shape[1]}x{self._shape[0]} to "
                f"{width}x{height} at frame {index}; convert it to one size"
            )
        return picture

    def _read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        ascending, places = np.unique(indices, return_inverse=True)
        first = self._picture(int(ascending[0]))
        frames = np.empty((len(ascending), *first.shape), np.uint8)
        frames[0] = first
        for row, index in enumerate(ascending[1:], start=1):
            frames[row] = self._picture(int(index))
        return frames if np.array_equal(ascending, indices) else frames[places]

    def _picture(self, index: int) -> NDArray[np.uint8]:
        pts = self._scan.pts
        if self._scan.exact and len(pts) == self.num_frames and not self.prefix:
            try:
                self._enter(pts, index)
                return self._forward(index, pts)
            except (_AstrayError, DamagedVideoError):
                # an entry that is no true one (gradual refresh); damage will show itself again
                self.close()
        elif self._next > index:
            self.close()
        return self._forward(index)

    def _enter(self, pts: NDArray[np.int64], index: int) -> None:
        """Place the stream at the nearest frame at or before `index` that decoding can start at."""
        stream = self._opened()
        keys = self._scan.key_pts
        entry = int(keys[max(0, int(np.searchsorted(keys, pts[index], side="right")) - 1)])
        position = int(np.searchsorted(pts, entry))
        if position > self._next or self._next > index:
            stream.seek(entry)
            self._next = position

    def _forward(self, index: int, pts: NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
        """Decode up to a frame, checking the times of all frames on the way if they are given."""
        stream = self._opened()
        for frame in stream:
            if pts is not None and frame.pts != pts[self._next]:
                if frame.pts is not None and frame.pts < pts[self._next]:
                    # after entering: shown before the entry, and perhaps not whole
                    continue
                raise _AstrayError
            self._next += 1
            if self._next > index:
                return self._upright(stream, frame, index)
        raise DamagedVideoError(
            f"{self._path}: ends before frame {index}; it is cut off or has changed", self._next
        )


class PyavPrefixReader(PyavReader):
    """Read the frames before the first damage of a file, by PyAV."""

    prefix = True
