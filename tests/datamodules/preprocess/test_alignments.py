"""Clips by every alignment against plain references on the whole frame."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from datamodules.clip_dataset import ClipCutter
from datamodules.errors import DataError
from datamodules.faces.detect import five_points
from datamodules.preprocess.align import big_box, clip_transform
from datamodules.preprocess.alignments import (
    ALIGNMENTS,
    Alignment,
    bench_target,
    check_alignment,
    frame_matrices,
)
from datamodules.store.prepared import PreparedStore, TrackWriter
from datamodules.transforms import FLIP_68, ClipAugmentation
from tests.support.stores import track_meta, write_store

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from datamodules.schema import Clip

HEIGHT, WIDTH, SIZE = 360, 480, 96
#: A face of 68 points in the unit square whose eyes, nose and mouth lie where they should.
UNIT = np.random.default_rng(1).uniform(0.05, 0.95, (68, 2))
UNIT[36:42] = [[0.24, 0.4], [0.28, 0.37], [0.33, 0.37], [0.37, 0.4], [0.33, 0.42], [0.28, 0.42]]
UNIT[42:48] = UNIT[36:42] * [-1, 1] + [1, 0]
UNIT[30], UNIT[48], UNIT[54], UNIT[49], UNIT[55] = (
    *((0.5, 0.6), (0.36, 0.76), (0.64, 0.76)),
    *((0.42, 0.73), (0.6, 0.78)),
)


@cache
def frame(number: int) -> NDArray[np.uint8]:
    """A smooth picture without repeats."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [
        120 + 100 * np.sin(x / (13 + 5 * c) + number) * np.cos(y / (17 - 3 * c)) for c in range(3)
    ]
    return np.stack(waves, axis=2).astype(np.uint8)


def face(number: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Box, 68 points and forehead of a face that moves, grows and tilts."""
    angle, side = np.radians(-10 + 6 * number), 110 + 4 * number
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (UNIT - 0.5) * side @ turn.T + [230 + 3 * number, 180 - 2 * number]
    box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    return (*(a.astype(np.float32) for a in (box, points, points[:13] - [0, 20])),)  # type: ignore[return-value]


@pytest.fixture
def store(tmp_path: Path) -> PreparedStore:
    write_store(tmp_path, {("train", 0): 1}, num_frames=2)
    meta = track_meta(image_format="png", quality=0, height=HEIGHT, width=WIDTH)
    with TrackWriter(tmp_path / "tracks/face.zip", meta) as writer:
        for number in range(5):
            box, points68, forehead = face(number)
            x0, y0, x1, y1 = big_box(box, HEIGHT, WIDTH)
            writer.add(
                number,
                frame(number)[y0:y1, x0:x1],
                (x0, y0, x1, y1),
                box=box,
                points5=five_points(points68),
                points68=points68,
                score=1.0,
                forehead=forehead,
            )
    return PreparedStore(tmp_path)


def cut(store: PreparedStore, alignment: Alignment, **augmentation: float) -> Clip:
    chosen = ClipAugmentation(**augmentation) if augmentation else None  # type: ignore[arg-type]
    cutter = ClipCutter(store, SIZE, chosen, alignment)
    return cutter.cut("tracks/face.zip", range(5), np.random.default_rng(0))


def fit(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares over rotation, scale and shift as a linear system, in `target`."""
    rows = [[x, -y, 1, 0] for x, y in source] + [[y, x, 0, 1] for x, y in source]
    a, b, u, v = np.linalg.lstsq(np.array(rows), target.T.reshape(-1), rcond=None)[0]
    return np.array([[a, -b, u], [b, a, v]])


def reference(alignment: Alignment, number: int) -> NDArray[np.uint8]:
    """Align the whole frame, as a plain program would."""
    box, points68, _ = face(number)
    if alignment == "box":
        x0, y0, x1, y1 = box
        side = int(1.3 * max(x1 - x0, y1 - y0))
        left, top = int((x0 + x1) / 2 - side / 2), int((y0 + y1) / 2 - side / 2)
        part = frame(number)[top : top + side, left : left + side]
        return np.asarray(cv2.resize(part, (SIZE, SIZE)), np.uint8)
    if alignment == "bench":
        table = [(30.2946, 51.6963), (65.5318, 51.5014), (48.0252, 71.7366)]
        table += [(33.5493, 92.3655), (62.7299, 92.2041)]
        target = ((np.array(table) + np.array([8, 0])) * SIZE / 112 + 0.15 * SIZE) / 1.3
        matrix = fit(points68[[37, 44, 30, 49, 55]].astype(float), target)
    else:
        matrix = clip_transform(np.stack([five_points(face(k)[1]) for k in range(5)]), SIZE)
    return np.asarray(cv2.warpAffine(frame(number), matrix, (SIZE, SIZE)), np.uint8)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_clips_are_what_plain_programs_make_of_the_frame(
    store: PreparedStore, alignment: Alignment
) -> None:
    clip = cut(store, alignment)
    for number in range(5):
        wanted = reference(alignment, number).astype(int)
        # Black where the stored crop does not reach; at its border mixed with black.
        known = np.pad(clip.frames[number].any(axis=2)[2:-2, 2:-2], 2).astype(np.uint8)
        inside = cv2.erode(known, np.ones((5, 5))).astype(bool)
        assert inside.mean() > 0.8
        assert np.abs(clip.frames[number].astype(int) - wanted)[inside].max() <= 1


def test_the_target_is_that_of_deepfakebench_at_256() -> None:
    table = [(96.870, 120.433), (158.825, 120.090), (128.044, 155.669), (102.592, 191.939)]
    np.testing.assert_allclose(bench_target(256)[:4], table, atol=1e-3)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("jitter", [0.0, 4.0])
def test_landmarks_lie_where_the_picture_is(
    store: PreparedStore, alignment: Alignment, jitter: float
) -> None:
    """The colours at a landmark are those of the frame there, mirrored or not."""
    for flip in (0.0, 1.0):
        clip = cut(store, alignment, flip_prob=flip, landmark_jitter_px=jitter)
        assert clip.forehead is not None
        points68 = clip.points68[:, FLIP_68] if flip else clip.points68
        for number, points in enumerate(points68):
            source = face(number)[1]
            for at, there in zip(points[17:60], source[17:60], strict=True):
                if (at < 3).any() or (at > SIZE - 4).any():
                    continue
                x, y = (round(float(v)) for v in at)
                u, v = (round(float(w)) for w in there)
                difference = clip.frames[number, y, x].astype(int) - frame(number)[v, u]
                assert np.abs(difference).max() < 40
        # Points 0 to 12 stand for the forehead, 20 pixels below it, of which the first is 68.
        up = clip.points68[:, 16 if flip else 0] - clip.forehead[:, 77 - 68 if flip else 0]
        assert np.isfinite(up).all()


def test_upright_faces_stand_still_and_boxes_are_not_turned(store: PreparedStore) -> None:
    bench, box = cut(store, "bench").points68, cut(store, "box").points68
    assert np.abs(bench - bench[0]).max() < 0.05
    slopes = [points[45] - points[36] for points in box]
    tilts = np.degrees([np.arctan2(y, x) for x, y in slopes])
    np.testing.assert_allclose(tilts, -10 + 6 * np.arange(5), atol=0.1)


@pytest.mark.parametrize("alignment", ["bench", "box"])
def test_jitter_moves_all_frames_alike(store: PreparedStore, alignment: Alignment) -> None:
    plain = cut(store, alignment).points68
    moved = cut(store, alignment, landmark_jitter_px=20.0).points68
    shift = (moved - plain).mean(axis=1)
    assert np.abs(shift).max() > 0.5
    assert np.abs(shift - shift[0]).max() < 0.5 * np.abs(shift).max()


def test_a_box_at_the_border_stays_in_the_frame(store: PreparedStore) -> None:
    track = store.reader("tracks/face.zip").track
    for corner in ((-20, 100), (430, 300), (100, -30)):
        track.box[:] = np.tile([*corner, corner[0] + 80, corner[1] + 60], (5, 1))
        size = (HEIGHT, WIDTH)
        for matrix in frame_matrices("box", track, np.arange(5), size, SIZE):
            back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
            low, high = (back @ [-0.5, -0.5, 1])[:2], (back @ [SIZE - 0.5, SIZE - 0.5, 1])[:2]
            assert (low >= -0.501).all()
            assert (high <= np.array([WIDTH, HEIGHT]) - 0.499).all()
            assert (high > low).all()


def test_points_that_coincide_and_wrong_names_are_refused(store: PreparedStore) -> None:
    track = store.reader("tracks/face.zip").track
    track.points68[2] = 7.0
    with pytest.raises(DataError, match="find them again"):
        frame_matrices("bench", track, np.arange(5), (HEIGHT, WIDTH), SIZE)
    with pytest.raises(DataError, match="there are clip, bench, box"):
        check_alignment("dlib")
