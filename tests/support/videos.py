"""Small true video files whose frames carry their own number, for tests of anything that decodes.

The number is drawn as a bar code into the picture, so that a test can ask a decoded frame which
one it is instead of trusting the decoder that is being tested.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

#: Bits of the bar code: enough for 4096 frames, wide enough to survive any codec at 96 pixels.
CODE_BITS = 12

_ENCODER_OPTIONS = {
    "libx265": {"x265-params": "log-level=none"},
    "libx264": {"preset": "veryfast"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}
#: 16.16 fixed point (a, b, c, d) of the matrix in an mp4's track header, by degrees clockwise.
_MATRICES = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def coded_frame(index: int, height: int, width: int) -> NDArray[np.uint8]:
    """Draw a frame that shows its number: bars in the upper half, moving texture below.

    Args:
        index: Number of the frame, 0 to 4095.
        height: Height in pixels.
        width: Width in pixels, at least 8 for each of the `CODE_BITS` bars.

    Returns:
        RGB picture, shape (height, width, 3), uint8.
    """
    rows = np.arange(height)[:, None]
    columns = np.arange(width)[None, :]
    wave = 128 + 60 * np.sin((columns + 5 * index) / 9.0) * np.cos((rows - 3 * index) / 7.0)
    frame = np.stack([wave, 255 - wave, np.roll(wave, 7, axis=1)], axis=2)
    bits = (index >> np.arange(CODE_BITS)) & 1
    bars = bits[np.arange(width) * CODE_BITS // width]
    frame[: height // 2] = np.where(bars, 215, 40)[None, :, None]
    return frame.astype(np.uint8)


def read_code(frame: NDArray[np.uint8]) -> int:
    """Read the number that `coded_frame` drew.

    Args:
        frame: RGB picture, shape (H, W, 3), uint8.

    Returns:
        The number.

    Raises:
        ValueError: A bar is neither dark nor bright: the picture is damaged or blended.
    """
    height, width = frame.shape[:2]
    centres = (np.arange(CODE_BITS) * 2 + 1) * width // (2 * CODE_BITS)
    levels = frame[height // 8 : height // 3, centres].mean(axis=(0, 2))
    if np.any(np.abs(levels - 128) < 30):
        raise ValueError(f"unreadable bar code, grey levels {levels.round().tolist()}")
    return int(((levels > 128).astype(int) << np.arange(CODE_BITS)).sum())


def read_codes(frames: NDArray[np.uint8]) -> list[int]:
    """Read the numbers of frames of shape (N, H, W, 3)."""
    return [read_code(frame) for frame in frames]


def write_video(
    path: Path,
    num_frames: int = 30,
    *,
    fps: int = 25,
    height: int = 96,
    width: int = 128,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    gop: int = 12,
    b_frames: int = 2,
    ticks: Sequence[int] | None = None,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode frames that show their number.

    Args:
        path: File to write; its suffix chooses the container.
        num_frames: Number of frames.
        fps: Frames a second.
        height: Height of the upright picture in pixels.
        width: Width of the upright picture in pixels.
        codec: Encoder.
        pix_fmt: Pixel format of the stream.
        gop: Largest distance of key frames.
        b_frames: Largest number of B-frames in a row.
        ticks: Time of each frame in units of 1/fps, for a variable frame rate.
        rotation: Degrees by which a player must turn the stored picture clockwise.
        options: Further options of the encoder.
        container_options: Options of the muxer, for example `movflags`.

    Returns:
        `path`.
    """
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(
            codec, rate=fps, options=_ENCODER_OPTIONS.get(codec, {}) | (options or {})
        )
        size = (width, height) if rotation % 180 == 0 else (height, width)
        _set_up(stream, size, pix_fmt, gop, b_frames)
        pictures = (coded_frame(index, height, width) for index in range(num_frames))
        # stored lying on its side, so that turning it clockwise makes it upright
        stored = (np.rot90(picture, rotation // 90) for picture in pictures)
        _encode(container, stream, stored, ticks or range(num_frames), fps)
    if rotation:
        _write_rotation(path, rotation)
    return path


def _set_up(stream: Any, size: tuple[int, int], pix_fmt: str, gop: int, b_frames: int) -> None:
    stream.width, stream.height = size
    stream.pix_fmt = pix_fmt
    stream.codec_context.gop_size = gop
    stream.codec_context.max_b_frames = b_frames
    stream.codec_context.thread_count = 1
    if pix_fmt.startswith("yuvj"):
        stream.codec_context.color_range = 2  # full range: the mjpeg encoder insists on it


def _encode(
    container: Any, stream: Any, pictures: Iterable[NDArray[Any]], ticks: Sequence[int], fps: int
) -> None:
    for picture, tick in zip(pictures, ticks, strict=False):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts = tick
        frame.time_base = Fraction(1, fps)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _write_rotation(path: Path, degrees: int) -> None:
    """Turn the display matrix of an mp4; not every PyAV can set it while muxing."""
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd") + 4
    # version 0: flags, times, id, duration, layer, volume come first, 40 bytes
    matrix = header + 40
    a, b, c, d = (value << 16 for value in _MATRICES[degrees])
    data[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))


def cut_with_edit_list(source: Path, path: Path, first_frame: int, fps: int = 25) -> Path:
    """Copy a video without re-encoding and hide the frames before `first_frame` by an edit list.

    Args:
        source: An mp4.
        path: The mp4 to write.
        first_frame: The first frame that a player shows.
        fps: Frames a second of `source`.

    Returns:
        `path`.
    """
    with av.open(str(source)) as reading, av.open(str(path), "w") as writing:
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        for packet in reading.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            shift = round(first_frame / fps / packet.time_base)
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = copy
            writing.mux(packet)
    return path


def truncate_file(source: Path, path: Path, fraction: float) -> Path:
    """Copy the first `fraction` of the bytes of `source` to `path`."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path


def overwrite_bytes(source: Path, path: Path, start: float, count: int, seed: int = 0) -> Path:
    """Copy `source` to `path` and replace `count` bytes behind the fraction `start` by noise."""
    data = bytearray(source.read_bytes())
    first = int(len(data) * start)
    noise = np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)
    data[first : first + count] = noise.tobytes()
    path.write_bytes(bytes(data))
    return path
