"""Real encoders: frames to a video file, with settings that can be written down."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from datamodules.errors import DataError
from datamodules.video.info import ASSUMED_FPS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

#: Encoders of FFmpeg by codec.
_ENCODERS = {"h264": "libx264", "hevc": "libx265"}
#: Denominators up to this tell all usual rates exactly, 30000/1001 among them.
_MOST_DENOMINATOR = 1001


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How frames are encoded; exactly one of `crf` and `kbps` is given.

    Attributes:
        codec: `h264` (libx264) or `hevc` (libx265).
        crf: Constant rate factor; larger is worse.
        kbps: Mean rate in kilobits a second, reached in one pass.
        gop: Most frames from one key frame to the next; 250 is the default of both encoders.
        preset: Of the encoder, which trades time for size.
        pixel_format: `yuv420p`, or `yuv444p` for colours at full size.
    """

    codec: Literal["h264", "hevc"] = "h264"
    crf: float | None = None
    kbps: float | None = None
    gop: int = 250
    preset: str = "medium"
    pixel_format: Literal["yuv420p", "yuv444p"] = "yuv420p"

    def __post_init__(self) -> None:
        if (self.crf is None) == (self.kbps is None):
            raise ValueError("an Encoding has either crf or kbps")


#: Loses nothing but the rounding of colours to YUV; for files that are prepared afterwards.
LOSSLESS = Encoding(crf=0, preset="ultrafast", pixel_format="yuv444p")


def encode_video(
    frames: Iterable[NDArray[np.uint8]], path: Path, encoding: Encoding, fps: float
) -> int:
    """Encode frames into a file; equal frames and settings give equal bytes.

    Args:
        frames: RGB, each of shape (H, W, 3), uint8; sides that the pixel format cannot hold lose
            their last row or column of pixels to a copy of the one before.
        path: The file to write; its suffix chooses the container.
        encoding: How.
        fps: Frames a second; 0 where it is not known.

    Returns:
        The number of frames.

    Raises:
        DataError: If there is no frame, or the encoder refuses them.
    """
    import av

    pictures = iter(frames)
    first = next(pictures, None)
    if first is None:
        raise DataError(f"{path}: no frame to encode")
    rate = Fraction(fps or ASSUMED_FPS).limit_denominator(_MOST_DENOMINATOR)
    count = 0
    try:
        with av.open(str(path), "w") as container:
            stream = _stream(container, encoding, rate, _even(first, encoding))
            for count, picture in enumerate(chain([first], pictures), start=1):
                frame = av.VideoFrame.from_ndarray(_even(picture, encoding), format="rgb24")
                frame.pts, frame.time_base = count - 1, 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    except av.error.FFmpegError as error:
        raise DataError(f"{path}: {encoding.codec} cannot encode it ({error})") from error
    return count


def even_size(height: int, width: int) -> tuple[int, int]:
    """Give the size of a picture whose colours have half its height and width."""
    return height + height % 2, width + width % 2


def _stream(container: Any, encoding: Encoding, rate: Fraction, picture: NDArray[np.uint8]) -> Any:
    options = {"preset": encoding.preset}
    if encoding.crf is not None:
        options["crf"] = f"{encoding.crf:g}"
    if encoding.codec == "hevc":
        # One thread of each kind: with more, the bytes depend on the machine.
        options["x265-params"] = "log-level=none:pools=none:frame-threads=1"
    stream = container.add_stream(_ENCODERS[encoding.codec], rate=rate, options=options)
    stream.height, stream.width = picture.shape[:2]
    stream.pix_fmt = encoding.pixel_format
    if encoding.kbps is not None:
        stream.bit_rate = round(1000 * encoding.kbps)
    stream.codec_context.gop_size = encoding.gop
    stream.codec_context.thread_count = 1
    return stream


def _even(picture: NDArray[np.uint8], encoding: Encoding) -> NDArray[np.uint8]:
    """Repeat the last row and column where colours are stored for two pixels at once."""
    height, width = picture.shape[:2]
    if encoding.pixel_format == "yuv444p" or not (height % 2 or width % 2):
        return np.ascontiguousarray(picture)
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
