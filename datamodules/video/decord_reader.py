"""The fast reader: decord, kept to what it does exactly."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.video.lazy_reader import LazyReader, check_count
from datamodules.video.libav import DamagedVideoError, open_container
from datamodules.video.packets import frame_rate

#: decord puts the nearest good frame in the place of a damaged one and goes on; with this share
#: of replaced frames as the limit it raises at the first one.
_NO_REPLACED_FRAMES = 1e-6

#: What decord puts before its messages: time of day and line of its source, often twice.
_TRACE = re.compile(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ")

_IMPORT_LOCK = threading.Lock()


def import_decord() -> Any:
    """Import decord without the CUDA libraries.

    decord loads every library below an importable package `nvidia`, 600 MB in each worker,
    although we decode on the CPU. With that name blocked for the time of the import it does not.

    Returns:
        The module.

    Raises:
        ImportError: decord is not installed, or its library does not load.
    """
    with _IMPORT_LOCK:
        imported = sys.modules.get("decord")
        if imported is not None:
            return imported
        missing: Any = object()
        kept: Any = sys.modules.get("nvidia", missing)
        sys.modules["nvidia"] = None  # type: ignore[assignment]
        try:
            import decord
        except (OSError, RuntimeError) as error:
            raise ImportError(f"the library of decord does not load: {error}") from error
        finally:
            if kept is missing:
                del sys.modules["nvidia"]
            else:
                sys.modules["nvidia"] = kept
        decord.logging.set_level(decord.logging.QUIET)
        return decord


class DecordReader(LazyReader[Any]):
    """Read by decord: fast, and exact on the files that `probe_video` names it for.

    Args:
        path: The file.
        num_frames: What `probe_video` counted; another number means another file.
    """

    def _open(self) -> Any:
        # for one message about bad files, whatever the decoder
        open_container(self._path).close()
        decord = import_decord()
        reader = self._guarded(
            lambda: decord.VideoReader(
                # absolute, as a colon in a relative name means a protocol to FFmpeg
                str(self._path.absolute()),
                ctx=decord.cpu(0),
                num_threads=1,
                fault_tol=_NO_REPLACED_FRAMES,
            )
        )
        check_count(self._path, len(reader), self._promised)
        # jumping at once into some videos of FaceForensics++ gives pictures of nothing (decord2
        # 3.4); once the first frame is decoded, none of them did
        first = self._guarded(lambda: reader.get_batch([0]).asnumpy())
        self._shape = (first.shape[1], first.shape[2])
        return reader

    def _release(self, handle: Any) -> None:
        del handle

    def _forget(self, handle: Any) -> None:
        handle._handle = None

    def _guarded(self, call: Callable[[], Any]) -> Any:
        decord = import_decord()
        try:
            return call()
        except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            reason = _TRACE.sub("", lines[0])
            raise DamagedVideoError(f"{self._path}: decord stops ({reason})", 0) from error

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self._promised if self._promised is not None else len(self._opened())

    @property
    def fps(self) -> float:
        """Mean number of frames a second, 0 where the file does not tell."""
        reader = self._opened()
        times = reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64)
        return frame_rate(times, float(reader.get_avg_fps()))

    def _read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        reader = self._opened()
        frames: NDArray[np.uint8] = self._guarded(lambda: reader.get_batch(indices).asnumpy())
        return frames

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for index in range(self.num_frames):
            # one by one is as fast as many at once, and keeps one frame
            yield self._read(np.array([index]))[0]
