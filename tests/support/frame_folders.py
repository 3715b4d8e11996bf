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

from tests.support.raw_folder import UNIT_FACE
from tests.support.videos import coded_frame


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


def write_landmarks(file: Path, left: float = 60, side: float = 130, dtype: Any = int) -> Path:
    """Write 81 points of a face in a crop, as DeepfakeBench does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    forehead = np.stack([np.linspace(0.1, 0.9, 13), np.full(13, 0.05)], axis=1)
    points = np.concatenate([UNIT_FACE, forehead]) * side + (left, 60)
    np.save(file, points.astype(dtype))
    return file


def write_bench_video(
    root: Path, folder: str, numbers: Sequence[int], seed: int = 0, size: int = 256
) -> list[str]:
    """Write crops and landmarks of a video below `<folder with frames>/<video>`.

    Returns:
        The pictures, relative to the root.
    """
    pictures = [coded_frame(seed + number, size, size) for number in numbers]
    write_frames(root / folder, pictures, numbers)
    for number in numbers:
        twin = folder.replace("/frames/", "/landmarks/")
        write_landmarks(root / twin / f"{number:03d}.npy", left=60 + number % 7)
    return [f"{folder}/{number:03d}.png" for number in numbers]
