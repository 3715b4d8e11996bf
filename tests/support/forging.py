"""Stores for tests of fakes that are made: faces that move, of many colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.clip_dataset import ClipCutter
from datamodules.fake_from_real import ClipForger, FakeFromReal
from datamodules.schema import Clip
from datamodules.store.prepared import PreparedStore
from tests.support.stores import FACE_POINTS68, write_store

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

#: Size of a clip in pixels.
SIZE = 96


def forger(root: Path, num_frames: int = 6, **options: Any) -> ClipForger:
    """Make a forger over the usable training videos of a store."""
    store = PreparedStore(root)
    records = [record for record in store.records if record.split == "train"]
    return ClipForger(FakeFromReal(**options), ClipCutter(store, SIZE), records, num_frames)


def real_store(root: Path, num_real: int = 4, num_frames: int = 20) -> Path:
    """Write a store of real training videos, and both kinds for validation and test."""
    others = {(split, label): 1 for split in ("val", "test") for label in (0, 1)}
    write_store(root, {("train", 0): num_real, **others}, num_frames)  # type: ignore[dict-item]
    return root


def moving_face(motions: list[NDArray[np.float64]], size: int = 128) -> Clip:
    """Make a clip of noise whose landmarks move by the given maps of shape (2, 3)."""
    face = np.concatenate([FACE_POINTS68 + 32, np.ones((68, 1))], axis=1)
    points = np.stack([face @ motion.T for motion in motions]).astype(np.float32)
    frames = np.random.default_rng(0).integers(0, 256, (len(points), size, size, 3), dtype=np.uint8)
    return Clip(frames=frames, frame_index=np.arange(len(points)), points68=points)


def turned(degrees: float, x: float, y: float, size: int = 128) -> NDArray[np.float64]:
    """Make the map that turns a picture about its middle and shifts it."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[c, -s], [s, c]])
    middle = np.full(2, (size - 1) / 2)
    return np.column_stack([turn, middle - turn @ middle + (x, y)])
