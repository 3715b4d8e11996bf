from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.preprocess.align import (
    big_box,
    clip_transform,
    crop_matrices,
    similarity_transform,
    target_points,
    transform_points,
    warp_crops,
)

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "weights" / "golden" / "preprocess.json").read_text()
)
ALIGN = GOLDEN["align"]
POINTS = np.array(ALIGN["landmarks5_xy"])
BOXES = np.array(ALIGN["big_boxes_xyxy"])


def golden_frames() -> NDArray[np.uint8]:
    """Integer clip rule "clip0" of the golden files, T=4, H=240, W=320."""
    t, y, x, c = np.ogrid[:4, :240, :320, :3]
    return np.asarray((2 * y + 3 * x + 11 * t + 40 * c + (x * y) // 32) % 256, np.uint8)


def golden_crops() -> list[NDArray[np.uint8]]:
    return [
        frame[y0:y1, x0:x1] for frame, (x0, y0, x1, y1) in zip(golden_frames(), BOXES, strict=True)
    ]


@pytest.mark.parametrize("case", GOLDEN["big_box"])
def test_big_box_golden(case: dict[str, Any]) -> None:
    assert list(big_box(case["box_xyxy"], *case["frame_height_width"])) == case["big_box_xyxy"]


def test_big_boxes_of_the_golden_clip() -> None:
    boxes = [big_box(box, 240, 320) for box in ALIGN["boxes_xyxy"]]
    np.testing.assert_array_equal(boxes, BOXES)


@pytest.mark.parametrize("box", [(700, 10, 800, 90), (-90, 5, -50, 40), (10, 10, 10, 10)])
def test_a_box_outside_the_frame_has_no_crop(box: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="640x480"):
        big_box(box, 480, 640)


def test_target_points() -> None:
    np.testing.assert_allclose(target_points(224), GOLDEN["target_points_224"], atol=1e-12)
    np.testing.assert_allclose(target_points(64), target_points(224) * 64 / 224, atol=1e-12)


def test_transform_of_the_golden_clip() -> None:
    matrix = clip_transform(POINTS, 224)
    # the golden matrix starts at the corner of the canvas, the union of the crops
    corner = BOXES[:, :2].min(axis=0)
    assert corner.tolist() == ALIGN["canvas_left_top"]
    on_canvas = crop_matrices(matrix, corner[None])[0]
    np.testing.assert_allclose(on_canvas, ALIGN["affine_2x3_from_canvas_to_224"], atol=1e-8)


def test_landmarks_of_the_golden_clip() -> None:
    points = POINTS.mean(axis=1)[:, None] + np.arange(68)[None, :, None] * np.array([0.1, -0.05])
    moved = transform_points(points, clip_transform(POINTS, 224))
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved[0, :3], ALIGN["aligned_landmarks68_first3"], atol=2e-5)


def test_pixels_of_the_golden_clip() -> None:
    """Other OpenCV versions interpolate up to 2 grey levels differently."""
    frames = warp_crops(golden_crops(), BOXES, clip_transform(POINTS, 224), 224)
    assert list(frames.shape) == ALIGN["aligned_uint8_shape"]
    means = frames.reshape(4, -1).mean(axis=1)
    np.testing.assert_allclose(means, ALIGN["aligned_mean_per_frame"], atol=0.1)
    for place, rgb in ALIGN["aligned_samples"].items():
        pixel = frames[tuple(int(i) for i in place.strip("[]").split(","))]
        np.testing.assert_allclose(pixel, rgb, atol=4)


def test_one_warp_equals_pasting_on_a_canvas_first() -> None:
    crops, matrix = golden_crops(), clip_transform(POINTS, 96)
    left, top = BOXES[:, :2].min(axis=0)
    right, bottom = BOXES[:, 2:].max(axis=0)
    to_picture = crop_matrices(matrix, np.array([[left, top]]))[0]
    for crop, (x0, y0, x1, y1), frame in zip(
        crops, BOXES, warp_crops(crops, BOXES, matrix, 96), strict=True
    ):
        canvas = np.zeros((bottom - top, right - left, 3), np.uint8)
        canvas[y0 - top : y1 - top, x0 - left : x1 - left] = crop
        expected = cv2.warpAffine(canvas, to_picture, (96, 96))
        np.testing.assert_allclose(frame.astype(int), expected, atol=3)


@pytest.mark.parametrize("case", GOLDEN["reflection_erratum"])
def test_a_face_in_profile_is_not_mirrored(case: dict[str, Any]) -> None:
    target = target_points(224)
    centred = target - target.mean(axis=0)
    source = centred * [case["horizontal_squash"], 1] + [300, 200]
    matrix = similarity_transform(source, target)
    assert np.linalg.det(matrix[:, :2]) > 0
    if not case["mirrored"]:
        np.testing.assert_allclose(matrix, case["affine"], rtol=1e-6, atol=1e-6)


def test_fit_recovers_a_similarity() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(100, 30, (20, 2))
    angle, scale = 0.7, 2.5
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = similarity_transform(source, source @ turn.T + [5, -7])
    np.testing.assert_allclose(matrix, np.column_stack([turn, [5, -7]]), atol=1e-10)


def test_the_fit_is_least_squares_in_the_source() -> None:
    """No small change of the way back brings it nearer to the landmarks."""
    source, target = POINTS.reshape(-1, 2), np.tile(target_points(224), (4, 1))

    def cost(matrix: NDArray[np.float64]) -> float:
        back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
        return float(((target @ back[:, :2].T + back[:, 2] - source) ** 2).sum())

    best = similarity_transform(source, target)
    for a, b, x, y in np.eye(4) * 1e-3:
        for sign in (1, -1):
            change = sign * np.array([[a, -b, x * 50], [b, a, y * 50]])
            assert cost(best + change) > cost(best)


@pytest.mark.parametrize("value", [3.0, np.nan, np.inf])
def test_degenerate_landmarks_are_refused(value: float) -> None:
    with pytest.raises(DataError, match="find them again"):
        clip_transform(np.full((2, 5, 2), value), 224)
    with pytest.raises(DataError, match="find them again"):
        similarity_transform(np.full((5, 2), value), np.full((5, 2), 7.0))


def test_border_is_black() -> None:
    white = np.full((40, 40, 3), 255, np.uint8)
    matrix = np.array([[1.0, 0, 0], [0, 1, 0]])
    frame = warp_crops([white], np.array([[20, 30, 60, 70]]), matrix, 100)[0]
    assert frame[30:70, 20:60].min() == 255
    frame[30:70, 20:60] = 0
    assert frame.max() == 0
