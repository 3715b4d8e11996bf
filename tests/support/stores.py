"""Small prepared stores with known contents."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.manifest import write_manifest
from datamodules.schema import VideoRecord
from datamodules.store.prepared import (
    MANIFEST_NAME,
    PreparedInfo,
    TrackMeta,
    TrackWriter,
    write_prepared_info,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from datamodules.schema import Split

#: Where the five points lie in a face of 64 pixels whose corner is at the origin.
FACE_POINTS5 = np.array([[20, 22], [44, 22], [32, 36], [23, 46], [41, 46]], np.float32)


def _face_points68() -> NDArray[np.float32]:
    """Place 68 landmarks of the 300-W order in the same face of 64 pixels."""

    def oval(x: float, y: float, width: float, height: float, degrees: Any) -> Any:
        angles = np.deg2rad(degrees)
        return np.stack([x + width * np.cos(angles), y + height * np.sin(angles)], axis=1)

    brows = np.linspace(-6, 6, 5)
    eye = np.array([180, 240, 300, 0, 60, 120])
    parts = [
        oval(32, 28, 22, 28, np.linspace(180, 0, 17)),
        *(np.stack([x + brows, 16 + brows**2 / 18], axis=1) for x in (20, 44)),
        np.stack([np.full(4, 32.0), np.linspace(22, 34, 4)], axis=1),
        np.stack([np.linspace(27, 37, 5), np.full(5, 38.0)], axis=1),
        *(oval(x, 22, 4, 2, eye) for x in (20, 44)),
        oval(32, 46, 9, 4, np.arange(180, 540, 30)),
        oval(32, 46, 6, 2, np.arange(180, 540, 45)),
    ]
    return np.concatenate(parts).astype(np.float32)


FACE_POINTS68 = _face_points68()


def track_meta(**changes: Any) -> TrackMeta:
    """Describe a track of a video of 25 frames a second."""
    values: dict[str, Any] = {
        "source_sha256": hashlib.sha256(b"toy").hexdigest(),
        "backend": "given",
        "backend_version": "1",
        "fps": 25.0,
        "height": 120,
        "width": 160,
    }
    return TrackMeta(**{**values, **changes})


def smooth_crop(frame_index: int, seed: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw a smooth picture that differs between frames and seeds.

    The red channel tells the frame: it is 40 + 2 * frame everywhere.
    """
    y, x = np.mgrid[: shape[0], : shape[1]]
    wave = 120 + 60 * np.sin(x / 9 + seed) * np.cos(y / 11 + frame_index / 5)
    image = np.repeat(wave[..., None], 3, axis=2)
    image[..., 0] = 40 + 2 * frame_index
    return image.astype(np.uint8)


def portrait(frame_index: int, seed: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw a picture that nods a little from frame to frame and resembles no other seed's."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / 64.0
    y = y + 0.01 * np.sin(frame_index / 3)
    waves = rng.uniform(-4, 4, (12, 2))
    phases = rng.uniform(0, 2 * np.pi, (12, 3))
    angles = 2 * np.pi * (waves[:, 0, None, None] * x + waves[:, 1, None, None] * y)
    image = np.cos(angles[..., None] + phases[:, None, None]).sum(axis=0)
    return np.clip(128 + 20 * image, 0, 255).astype(np.uint8)


def write_track(
    path: Path,
    num_frames: int,
    seed: int = 0,
    frames: Sequence[int] | None = None,
    draw: Callable[[int, int, tuple[int, int]], NDArray[np.uint8]] = smooth_crop,
    **meta: object,
) -> None:
    """Write a track whose face moves to the right by a pixel a frame."""
    with TrackWriter(path, track_meta(**meta)) as writer:
        for frame in range(num_frames) if frames is None else frames:
            x0, y0 = 20 + frame % 30, 30
            shape = (64 + frame % 2, 64)
            points5 = FACE_POINTS5 + np.array([x0, y0], np.float32)
            writer.add(
                frame,
                draw(frame, seed, shape),
                (x0, y0, x0 + shape[1], y0 + shape[0]),
                box=(x0 + 16, y0 + 16, x0 + 48, y0 + 48),
                points5=points5,
                points68=FACE_POINTS68 + np.array([x0, y0], np.float32),
                score=0.9,
            )


def write_store(
    root: Path,
    counts: dict[tuple[Split, int], int],
    num_frames: int = 12,
    num_tracks: int = 1,
    extra: Sequence[VideoRecord] = (),
) -> list[VideoRecord]:
    """Write a prepared folder.

    Args:
        root: The folder.
        counts: Number of videos for each (split, label).
        num_frames: Frames of every track.
        num_tracks: Tracks of every video.
        extra: Records to add as they are.

    Returns:
        The records, sorted as in the manifest.
    """
    records = list(extra)
    for (split, label), count in counts.items():
        for i in range(count):
            name = f"toy/{('real', 'fake')[label]}/{split}{i:02d}"
            tracks = tuple(f"tracks/{name}/{k}.zip" for k in range(num_tracks))
            for k, track in enumerate(tracks):
                write_track(root / track, num_frames, seed=i + 100 * label + 1000 * k)
            records.append(
                VideoRecord(
                    video_id=name,
                    path=f"{name}.mp4",
                    label=label,
                    dataset="toy",
                    split=split,
                    group_ids=(name,),
                    num_frames=num_frames,
                    fps=25.0,
                    height=120,
                    width=160,
                    sha256=hashlib.sha256(name.encode()).hexdigest(),
                    tracks=tracks,
                )
            )
    records.sort(key=lambda record: record.video_id)
    write_manifest(records, root / MANIFEST_NAME)
    info = PreparedInfo(
        backend="given", backend_version="1", parameters={}, libraries={}, counts={}
    )
    write_prepared_info(root, info)
    return records
