"""Masks: on the face, soft, within bounds, and of one shape in all frames."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from datamodules.blend_mask import MaskShape, contains, face_masks
from datamodules.errors import DataError
from datamodules.faces.landmarks import estimate_forehead
from tests.support.forging import moving_face, turned

PLAIN = MaskShape(forehead_prob=0, stretch=0, shift=0, elastic=0, erosion=(0, 0), feather=(0, 0))
STILL = turned(0, 0, 0)


def test_a_plain_mask_is_the_hull_of_the_landmarks() -> None:
    clip = moving_face([STILL, turned(10, 6, -4)])
    masks = face_masks(clip, PLAIN.draw(np.random.default_rng(0)))
    for points, mask in zip(clip.points68, masks.values, strict=True):
        hull = np.zeros(mask.shape, np.uint8)
        cv2.fillConvexPoly(hull, np.rint(cv2.convexHull(points)).astype(np.int32), (1,))
        assert (mask > 0.5).sum() == pytest.approx(hull.sum(), rel=0.05)
        assert np.abs((mask > 0.5) != hull).sum() < 0.05 * hull.sum()
    assert masks.values.dtype == np.float32
    assert (masks.values.min(), masks.values.max()) == (0, 1)


def test_nothing_lies_outside_of_the_parts() -> None:
    clip = moving_face([turned(3 * t, 2 * t, -t) for t in range(5)])
    for seed in range(30):
        masks = face_masks(clip, MaskShape().draw(np.random.default_rng(seed)))
        emptied = masks.values.copy()
        for part in masks.parts(emptied):
            part[:] = 0
        assert not emptied.any()
        assert masks.values.max() > 0.9


def test_a_still_face_has_a_still_mask() -> None:
    clip = moving_face([STILL] * 6)
    for seed in range(5):
        values = face_masks(clip, MaskShape().draw(np.random.default_rng(seed))).values
        assert all(np.array_equal(values[0], mask) for mask in values)


@pytest.mark.parametrize("seed", range(4))
def test_the_mask_follows_the_face_and_does_not_flicker(seed: int) -> None:
    motions = [turned(4 * t - 10, 3 * np.sin(t), 2 * t - 6) for t in range(6)]
    clip = moving_face(motions)
    values = face_masks(
        clip, MaskShape(erosion=(0.1, 0.3)).draw(np.random.default_rng(seed))
    ).values
    size = values.shape[1:]
    back = [
        cv2.warpAffine(mask, motion, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        for mask, motion in zip(values, motions, strict=True)
    ]
    area = values[0].sum()
    for mask in back[1:]:
        # In face coordinates frames agree but for the rounding of the drawing ...
        assert np.abs(mask - back[0]).sum() < 0.02 * area
    # ... and in the picture they do not, for the face moves.
    assert np.abs(values[-1] - values[0]).sum() > 0.1 * area
    other = face_masks(clip, MaskShape().draw(np.random.default_rng(seed + 50))).values
    assert np.abs(other[0] - values[0]).sum() > 0.05 * area


@pytest.mark.parametrize(
    ("change", "grows"),
    [({"erosion": (0.3, 0.3)}, False), ({"forehead_prob": 1.0}, True)],
)
def test_erosion_shrinks_and_the_forehead_enlarges(change: dict[str, object], grows: bool) -> None:
    clip = moving_face([STILL])
    clip = replace(clip, forehead=estimate_forehead(clip.points68) - np.float32([0, 16]))
    plain = face_masks(clip, PLAIN.draw(np.random.default_rng(0))).values
    changed = replace(PLAIN, **change).draw(np.random.default_rng(0))  # type: ignore[arg-type]
    values = face_masks(clip, changed).values
    low, high = (plain, values) if grows else (values, plain)
    assert (low - high).max() < 0.5  # the last pixel of an edge is drawn a little off
    assert abs(values.sum() - plain.sum()) > 0.08 * plain.sum()


def test_a_wider_blur_is_softer() -> None:
    clip = moving_face([STILL])
    soft = [
        face_masks(clip, replace(PLAIN, feather=(f, f)).draw(np.random.default_rng(0))).values
        for f in (0.02, 0.1, 0.3)
    ]
    between = [((mask > 0.02) & (mask < 0.98)).sum() for mask in soft]
    assert between == sorted(between)
    assert between[0] * 3 < between[2]


def test_masks_stay_within_bounds() -> None:
    clip = moving_face([STILL, turned(0, 4, 0)])
    bound = np.array([[[40, 40], [70, 40], [70, 200], [40, 200]]], np.float32).repeat(2, axis=0)
    values = face_masks(clip, MaskShape().draw(np.random.default_rng(1)), (bound,)).values
    assert values[:, 60:80, 48:62].max() > 0.5
    assert values[:, :, :39].max() < 0.02
    assert values[:, :, 72:].max() < 0.02


def test_masks_end_where_the_other_face_does_in_any_frame() -> None:
    clip = moving_face([STILL] * 3)
    other = np.stack([turned(0, shift, 0)[:, 2] for shift in (0, -8, -16)])
    faces = clip.points68 + other[:, None].astype(np.float32)
    values = face_masks(clip, PLAIN.draw(np.random.default_rng(0)), other_face=faces).values
    whole = face_masks(clip, PLAIN.draw(np.random.default_rng(0))).values
    assert all(np.array_equal(values[0], mask) for mask in values)
    right_end = [np.flatnonzero(mask[0].max(axis=0) > 0.5).max() for mask in (values, whole)]
    assert right_end[1] - right_end[0] == pytest.approx(16, abs=1.5)


def test_containment_is_that_of_all_points_of_all_frames() -> None:
    square = np.array([[[0, 0], [9, 0], [9, 9], [0, 9]]], np.float32).repeat(2, axis=0)
    points = np.array([[[1, 1], [8, 8]], [[5, 5], [9, 9]]], np.float32)
    assert contains(square, points)
    assert contains(square[:, ::-1], points)
    assert not contains(square, points + np.float32([0, 0.5]))


@pytest.mark.parametrize(
    "wrong", [{"elastic": 0.9}, {"feather": (0.2, 0.1)}, {"erosion": (-0.1, 0.0)}]
)
def test_impossible_shapes_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(DataError, match=f"fake_from_real.mask.{next(iter(wrong))} is"):
        MaskShape(**wrong)  # type: ignore[arg-type]
