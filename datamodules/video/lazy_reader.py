"""What every reader of frames promises, and how all of them open and leave their file."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError


class VideoReader(Protocol):
    """Frames of one video file, upright and in RGB.

    A reader opens its file at first use, in the process that uses it, so it may be made anywhere
    and sent to a worker. It is not for two threads at once.
    """

    @property
    def num_frames(self) -> int:
        """Number of frames."""

    @property
    def fps(self) -> float:
        """Mean number of frames a second, 0 where the file does not tell."""

    @property
    def height(self) -> int:
        """Height of the upright picture in pixels."""

    @property
    def width(self) -> int:
        """Width of the upright picture in pixels."""

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Decode some frames, in the order asked for; repeats are allowed.

        Args:
            indices: Positions of frames, 0 to `num_frames` - 1.

        Returns:
            Shape (len(indices), H, W, 3), uint8.

        Raises:
            IndexError: A position lies outside the video.
            DataError: The file is damaged at one of these frames.
        """

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Decode all frames in order, keeping only a few: each of shape (H, W, 3), uint8."""

    def close(self) -> None:
        """Release the file; the next use opens it again."""

    def __enter__(self) -> VideoReader: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


_Handle = TypeVar("_Handle")
_Reader = TypeVar("_Reader", bound="LazyReader[Any]")


class LazyReader(ABC, Generic[_Handle]):
    """Open a file late and once in each process, and never send the open file anywhere.

    Args:
        path: The file.
        num_frames: How many frames were counted before, or None.
    """

    # for `__del__`, should `__init__` not come this far
    _handle: _Handle | None = None

    def __init__(self, path: Path | str, num_frames: int | None = None) -> None:
        self._path = Path(path)
        self._promised = num_frames
        self._pid = -1
        self._shape: tuple[int, int] | None = None

    @abstractmethod
    def _open(self) -> _Handle: ...

    @abstractmethod
    def _release(self, handle: _Handle) -> None: ...

    @abstractmethod
    def _forget(self, handle: _Handle) -> None: ...

    @abstractmethod
    def _read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]: ...

    @property
    @abstractmethod
    def num_frames(self) -> int:
        """Number of frames."""

    def _opened(self) -> _Handle:
        if self._handle is not None and self._pid != os.getpid():
            # inherited by fork: its threads live in the parent only, so even closing would hang
            self._forget(self._handle)
            self._handle = None
        if self._handle is None:
            self._handle = self._open()
            self._pid = os.getpid()
        return self._handle

    @property
    def height(self) -> int:
        """Height of the upright picture in pixels."""
        return self._size()[0]

    @property
    def width(self) -> int:
        """Width of the upright picture in pixels."""
        return self._size()[1]

    def _size(self) -> tuple[int, int]:
        if self._shape is None:
            height, width = self.read([0]).shape[1:3]
            self._shape = (height, width)
        return self._shape

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Decode some frames; see `VideoReader.read`."""
        wanted = np.asarray(indices, np.int64).reshape(-1)
        outside = wanted[(wanted < 0) | (wanted >= self.num_frames)]
        if len(outside):
            raise IndexError(
                f"{self._path}: frame {outside[0]} asked for, has 0 to {self.num_frames - 1}"
            )
        if not len(wanted):
            return np.empty((0, self.height, self.width, 3), np.uint8)
        return self._read(wanted)

    def close(self) -> None:
        """Release the file; the next use opens it again."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        if self._pid == os.getpid():
            self._release(handle)
        else:
            self._forget(handle)

    def __enter__(self: _Reader) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[type, tuple[Path, int | None]]:
        return type(self), (self._path, self._promised)


def check_count(path: Path, count: int, promised: int | None) -> None:
    """Compare the number of frames with what was counted before.

    Raises:
        DataError: They differ.
    """
    if promised is not None and count != promised:
        raise DataError(
            f"{path}: has {count} frames where {promised} were counted before; "
            "the file has changed: prepare it again"
        )
