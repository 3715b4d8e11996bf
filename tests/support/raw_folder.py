"""Folders of small raw videos with given faces, for tests of the preparation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.videos import write_video

#: A face of 68 points inside the unit square; eyes, nose and mouth lie where they should.
UNIT_FACE = np.random.default_rng(0).uniform(0.1, 0.9, (68, 2))
UNIT_FACE[36:42] = (0.3, 0.35)
UNIT_FACE[42:48] = (0.7, 0.35)
UNIT_FACE[30], UNIT_FACE[48], UNIT_FACE[54] = (0.5, 0.55), (0.35, 0.75), (0.65, 0.75)


def face_rows(
    frames: Sequence[int], left: float = 40, side: float = 30, score: float = 0.9
) -> dict[str, NDArray[Any]]:
    """Describe a face that moves to the right by half a pixel a frame."""
    index = np.asarray(frames)
    x0, y0 = left + 0.5 * index, np.full(len(index), 30.0)
    return {
        "frame_index": index,
        "box": np.stack([x0, y0, x0 + side, y0 + side], axis=1),
        "points68": np.stack([x0, y0], axis=1)[:, None] + side * UNIT_FACE,
        "score": np.full(len(index), score),
    }


def write_faces(video: Path, *faces: dict[str, NDArray[Any]]) -> None:
    """Write the given faces of a video beside it."""
    rows: dict[str, Any] = {name: np.concatenate([f[name] for f in faces]) for name in faces[0]}
    np.savez(video.with_name(f"{video.name}.faces.npz"), **rows)


def write_clip(path: Path, *faces: dict[str, NDArray[Any]], num_frames: int = 20) -> Path:
    """Write a video of 128 x 96 pixels and its faces (one face in every frame unless given)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, num_frames)
    write_faces(path, *(faces or (face_rows(range(num_frames)),)))
    return path
