"""What a video may be, looked at in its headers and packets before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from datamodules.video.libav import open_container, video_stream
from datamodules.video.packets import scan_packets

#: Containers and codecs that cameras, phones, sites and editors make [ours]; of the hundreds that
#: FFmpeg reads, most are rare and little tested against hostile files.
CONTAINERS = frozenset({"mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi"}) | {
    *("mpegts", "mpeg", "flv", "asf", "ogg", "m4v", "ivf")
}
CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mpeg1video"}) | {
    *("mjpeg", "h263", "flv1", "wmv1", "wmv2", "wmv3", "vc1", "theora", "prores", "dnxhd"),
    *("msmpeg4v2", "msmpeg4v3", "dvvideo", "ffv1"),
}


@dataclass(frozen=True)
class VideoLimits:
    """What a video may be.

    Attributes:
        max_duration_s: Longest duration in seconds.
        max_frames: Most frames.
        max_side: Largest height or width in pixels.
        max_pixels: Most pixels of a frame.
        max_gigapixels: Most pixels of all frames together, in thousand millions.
    """

    max_duration_s: float = 7200.0
    max_frames: int = 500_000
    max_side: int = 8192
    max_pixels: int = 8192 * 4320
    max_gigapixels: float = 500.0


class LimitError(DataError):
    """Say which limit a video is over."""


def check_video(path: Path, limits: VideoLimits) -> None:
    """Refuse a video over the limits; nothing but its headers and packets is read.

    Args:
        path: The file.
        limits: What it may be.

    Raises:
        LimitError: It is over a limit.
        DataError: It is no video.
    """
    with open_container(path) as container:
        stream = video_stream(container, path)
        names = set(container.format.name.split(","))
        if not names & CONTAINERS:
            raise LimitError("its container is not among the accepted ones: convert it to MP4")
        if _family(stream.codec_context.name) not in CODECS:
            raise LimitError("its video codec is not among the accepted ones: convert it to H.264")
        _check_picture(stream.codec_context, limits)
        _check_duration(float(container.duration or 0) / 1e6, limits)
    scan = scan_packets(path)
    frames = max(scan.num_packets, len(scan.pts))
    if frames > limits.max_frames:
        raise LimitError(f"it has {frames} frames, and {limits.max_frames} are the most: cut it")
    if len(scan.times_s):
        _check_duration(float(scan.times_s[-1]), limits)
    if frames * scan.frame_pixels > limits.max_gigapixels * 1e9:
        raise LimitError(
            f"its {frames} frames have more than {limits.max_gigapixels:g} thousand million pixels "
            "together: cut it or make it smaller"
        )


def _family(codec: str) -> str:
    """Name a codec, whoever decodes it: `libdav1d` is AV1, `libvpx-vp9` VP9."""
    return {"libdav1d": "av1", "libaom-av1": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9"}.get(
        codec, codec
    )


def _check_picture(codec: Any, limits: VideoLimits) -> None:
    width, height = codec.width, codec.height
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise LimitError(
            f"its pictures are {width} x {height}; {limits.max_side} pixels a side and "
            f"{limits.max_pixels / 1e6:.0f} million in all are the most: make it smaller"
        )


def _check_duration(seconds: float, limits: VideoLimits) -> None:
    if seconds > limits.max_duration_s:
        raise LimitError(
            f"it lasts {seconds:.0f} s, and {limits.max_duration_s:.0f} s are the most: cut it"
        )
