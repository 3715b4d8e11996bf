"""Folders of frames, and the same frames as a lossless video."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray


def write_picture(file: Path, picture: NDArray[np.uint8]) -> Path:
    """Write an RGB picture of shape (H, W, 3), uint8; its folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return file


def write_frames(
    folder: Path,
    pictures: Iterable[NDArray[np.uint8]],
    numbers: Sequence[int] | None = None,
    suffix: str = ".png",
) -> Path:
    """Write pictures as `000.png`, `001.png`, ..., or by the numbers given."""
    for k, picture in enumerate(pictures):
        write_picture(folder / f"{numbers[k] if numbers else k:03d}{suffix}", picture)
    return folder


def write_lossless(path: Path, pictures: Sequence[NDArray[np.uint8]], fps: int = 25) -> Path:
    """Encode RGB pictures without loss (H.264 in RGB)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264rgb", rate=fps, options={"qp": "0"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "rgb24"
        stream.codec_context.thread_count = 1
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
