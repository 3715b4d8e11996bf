"""Opening and decoding a video file by PyAV, from its start or from any key frame.

The lowest layer of `datamodules.video.reader`. What it gives is the reference that the fast
decoder is held against.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError

#: Demuxers that we let a file choose [ours]. Playlists (hls, concat) stay out: a file given to
#: the suite must not make it open other files.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,mxf,"
    "ivf,h264,hevc,m4v,mjpeg,av1,obu,dv,nut,rm,gif,yuv4mpegpipe,wtv"
)


class DamagedVideoError(DataError):
    """Say that a file decodes up to some frame only.

    Attributes:
        good_frames: Number of frames before the first damage.
    """

    def __init__(self, message: str, good_frames: int) -> None:
        super().__init__(message)
        self.good_frames = good_frames

    def __reduce__(self) -> tuple[type[DamagedVideoError], tuple[str, int]]:
        return type(self), (str(self), self.good_frames)


def open_container(path: Path) -> Any:
    """Open a video file for reading.

    Args:
        path: The file.

    Returns:
        The PyAV container; its first stream of moving pictures decodes on one thread.

    Raises:
        DataError: There is no such file, or it holds no video.
    """
    import av

    _check_file(path)
    try:
        # absolute: FFmpeg takes what stands before a colon in a relative name for a protocol
        container = av.open(
            str(path.absolute()),
            options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise DataError(
            f"{path}: is no readable video ({short_reason(error)}); "
            "it is damaged, cut off or of another kind: copy or download it again"
        ) from error
    try:
        video_stream(container, path).codec_context.thread_count = 1
    except BaseException:
        container.close()
        raise
    return container


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({short_reason(error)}); check the path"
        ) from error
    if not path.is_file():
        raise DataError(f"{path}: is not a file; give a video file")
    if size == 0:
        raise DataError(f"{path}: is empty (0 bytes); copy or download it again")


def short_reason(error: BaseException) -> str:
    """Say in a few words what an error of PyAV or of the system is about."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def video_stream(container: Any, path: Path) -> Any:
    """Choose the stream of moving pictures, passing over cover pictures.

    Raises:
        DataError: There is none, or no decoder for it.
    """
    streams = [s for s in container.streams.video if not _is_cover(s)]
    if not streams:
        raise DataError(f"{path}: holds no video stream; give a file with moving pictures")
    if streams[0].codec_context is None:
        raise DataError(f"{path}: its video codec is unknown; convert it to H.264")
    return streams[0]


def _is_cover(stream: Any) -> bool:
    return "attached_pic" in str(stream.disposition)


class FrameStream:
    """One open file, decoded forwards from where it was last placed.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        from av.video.reformatter import VideoReformatter

        self._container = open_container(path)
        self._stream = video_stream(self._container, path)
        self._reformatter = VideoReformatter()
        self._decoded = self._container.decode(self._stream)

    def close(self) -> None:
        """Release the file."""
        self._container.close()

    def seek(self, pts: int) -> None:
        """Place the stream at the last key frame that is not after `pts`."""
        self._container.seek(pts, stream=self._stream, backward=True)
        self._decoded = self._container.decode(self._stream)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Decode the next frame to be shown.

        Returns:
            A PyAV frame; `rgb` makes a picture of it.

        Raises:
            StopIteration: At the end.
            DamagedVideoError: The frame cannot be decoded, or only with guessed parts.
        """
        import av

        try:
            frame = next(self._decoded)
        except (av.error.EOFError, StopIteration):
            raise StopIteration from None
        except av.error.FFmpegError as error:
            raise DamagedVideoError(short_reason(error), 0) from error
        if frame.is_corrupt:
            raise DamagedVideoError("parts of a frame are lost", 0)
        return frame

    def rgb(self, frame: Any) -> NDArray[np.uint8]:
        """Convert a frame to an upright RGB picture.

        Args:
            frame: What `__next__` gave.

        Returns:
            Shape (H, W, 3), uint8.
        """
        picture: Any = self._converted(frame).to_ndarray()
        # `rotation` counts counter-clockwise, as rot90 does
        return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))

    def _converted(self, frame: Any) -> Any:
        try:
            # threads of the converter would be missing, and waited for, after a fork
            return self._reformatter.reformat(frame, format="rgb24", threads=1)
        except TypeError:
            # older PyAV: no such argument, and no threads
            return self._reformatter.reformat(frame, format="rgb24")
