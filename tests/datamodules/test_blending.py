"""Blended fakes: who is blended in, where it is laid, in which colours, and what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from datamodules.blend_mask import ClipMask, MaskShape, face_masks
from datamodules.blending import CrossBlend, SelfBlend, blend, colour_transfer
from datamodules.errors import DataError
from datamodules.footage import shape_distance
from datamodules.store.track_writer import TrackWriter
from tests.support.forging import SIZE, forger, moving_face, real_store, turned
from tests.support.stores import FACE_POINTS5, FACE_POINTS68, track_meta

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

#: Red, green and blue as they are.
SAME = np.eye(3, 4)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return real_store(tmp_path_factory.mktemp("store"))


def _mask(value: float, size: int = 16, num_frames: int = 3) -> ClipMask:
    values = np.zeros((num_frames, size, size), np.float32)
    values[:, 4:12, 2:14] = value
    return ClipMask(values, np.array([[2, 4]] * num_frames), (8, 12))


def _noise(seed: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_blending_weighs_by_the_mask(value: float) -> None:
    frames, face = _noise(0, (3, 16, 16, 3)), _noise(1, (3, 8, 12, 3))
    before = frames.copy()
    forged = blend(frames, face, _mask(value), SAME)
    np.testing.assert_array_equal(frames, before)
    wanted = frames.astype(float)
    wanted[:, 4:12, 2:14] += value * (face - wanted[:, 4:12, 2:14])
    assert np.abs(forged.frames - wanted).max() <= 0.51
    if value == 0:
        np.testing.assert_array_equal(forged.frames, frames)
    assert forged.frames.dtype == np.uint8


def test_a_face_takes_over_mean_and_deviation_of_the_whole_clip() -> None:
    rng = np.random.default_rng(0)
    frames = np.clip(rng.normal((90, 120, 150), (10, 20, 15), (3, 64, 64, 3)), 0, 255)
    face = np.clip(rng.normal((160, 100, 80), (9, 15, 12), (3, 48, 48, 3)), 0, 255)
    # One frame is darker: the transfer is one for all frames, so it stays darker.
    face[1] -= 20
    values = np.zeros((3, 64, 64), np.float32)
    values[:, 8:56, 8:56] = 1
    mask = ClipMask(values, np.array([[8, 8]] * 3), (48, 48))
    frames, face = frames.astype(np.uint8), np.clip(face, 0, 255).astype(np.uint8)
    colours = colour_transfer(face, frames, mask)
    assert np.count_nonzero(colours[:, :3] - np.diag(np.diag(colours))) == 0
    forged = blend(frames, face, mask, colours).frames[:, 8:56, 8:56].astype(float)
    covered = frames[:, 8:56, 8:56].astype(float)
    np.testing.assert_allclose(forged.mean((0, 1, 2)), covered.mean((0, 1, 2)), atol=2)
    np.testing.assert_allclose(forged.std((0, 1, 2)), covered.std((0, 1, 2)), atol=2)
    assert (forged[1].mean((0, 1)) < forged[0].mean((0, 1)) - 5).all()


def test_an_empty_mask_transfers_nothing() -> None:
    colours = colour_transfer(_noise(0, (3, 8, 12, 3)), _noise(1, (3, 16, 16, 3)), _mask(0.3))
    np.testing.assert_array_equal(colours, SAME)


@pytest.mark.parametrize("name", ["cross_blend", "self_blend"])
def test_only_the_mask_is_forged_and_it_is_forged_in_all_frames(root: Path, name: str) -> None:
    maker = forger(root)
    for row in range(3):
        made = maker.try_to_make(name, row, np.random.default_rng(row))
        assert made is not None
        assert made.mask is not None
        frames, real = made.clip.frames, made.real.clip.frames
        np.testing.assert_array_equal(frames[made.mask == 0], real[made.mask == 0])
        changed = np.abs(frames.astype(int) - real).mean(axis=3)
        for k, mask in enumerate(made.mask):
            assert mask.max() > 0.9
            assert changed[k][mask > 0.9].mean() > 1
            # On the face: no more than a fringe of it lies beyond the landmarks' hull.
            hull = np.zeros(mask.shape, np.uint8)
            points = cv2.convexHull(made.clip.points68[k])
            cv2.fillConvexPoly(hull, np.rint(points).astype(np.int32), (1,))
            assert mask[cv2.dilate(hull, np.ones((15, 15), np.uint8)) == 0].max() < 0.3
        np.testing.assert_array_equal(made.clip.points68, made.real.clip.points68)


def test_nobody_is_blended_with_the_same_person(root: Path) -> None:
    footage = forger(root).footage
    for row in footage.real_rows:
        for seed in range(10):
            places = footage.others(row, 6, 3, np.random.default_rng(seed))
            assert len(places) == 3
            assert row not in [place.row for place in places]
            assert all(len(place.positions) == 6 for place in places)


def test_few_people_are_drawn_at_several_times(tmp_path: Path) -> None:
    real_store(tmp_path, num_real=2)
    places = forger(tmp_path).footage.others(0, 6, 12, np.random.default_rng(0))
    assert [place.row for place in places] == [1] * 12
    assert len(set(places)) > 4


def test_the_best_fitting_face_is_taken(tmp_path: Path) -> None:
    real_store(tmp_path, num_real=3)
    _write_stretched(tmp_path / "tracks/toy/real/train01/0.zip", 1.35)
    maker = forger(tmp_path, cross_blend=CrossBlend(max_distance=1.0))
    footage = maker.footage
    place = footage.draw(0, 6, np.random.default_rng(0)).place
    others = [footage.draw(row, 6, np.random.default_rng(1)).place for row in (1, 2)]
    assert [other.row for other in footage.nearest(place, others, 1.0)] == [2, 1]
    assert [other.row for other in footage.nearest(place, others, 0.05)] == [2]
    strict = forger(tmp_path, cross_blend=CrossBlend(max_distance=0.05))
    assert strict.try_to_make("cross_blend", 1, np.random.default_rng(0)) is None


def _write_stretched(path: Path, factor: float) -> None:
    """Write a track of a face that is narrow, or wide."""
    with TrackWriter(path, track_meta()) as writer:
        for frame in range(20):
            writer.add(
                frame,
                np.full((64, 64, 3), 128, np.uint8),
                (20, 30, 84, 94),
                box=(36, 46, 68, 78),
                points5=FACE_POINTS5 + np.float32([20, 30]),
                points68=FACE_POINTS68 * np.float32([factor, 1]) + np.float32([20, 30]),
                score=0.9,
            )


def test_shapes_compare_wherever_they_are() -> None:
    clip = moving_face([turned(0, 0, 0)] * 2).points68
    moved = (clip @ turned(30, 0, 0)[:, :2].T * 1.7 + (5, -9)).astype(np.float32)
    assert shape_distance(clip, moved) == pytest.approx(0, abs=1e-3)
    noise = np.random.default_rng(0).normal(size=clip.shape).astype(np.float32)
    assert shape_distance(clip, noise) > 0.7
    assert 0.05 < shape_distance(clip, clip * np.float32([1.3, 1])) < 0.3
    assert shape_distance(clip, np.zeros_like(clip)) == 1


def test_a_face_that_slips_in_one_frame_is_far() -> None:
    clip = np.random.default_rng(0).normal(size=(8, 68, 2)).astype(np.float32)
    slips = clip.copy()
    slips[5] += 0.5  # along both axes half a radius; in the mean of all frames a sixth
    assert 0.4 < shape_distance(slips, clip) < 0.5


def test_a_face_is_laid_onto_the_five_points_of_the_clip(tmp_path: Path) -> None:
    """The other face is white where its five points are: they arrive at those of the clip."""
    real_store(tmp_path, num_real=2)
    _write_marked(tmp_path / "tracks/toy/real/train01/0.zip")
    shape = MaskShape(stretch=0, shift=0, elastic=0, erosion=(0, 0), feather=(0, 0))
    maker = forger(tmp_path, mask=shape)
    made = maker.try_to_make("cross_blend", 0, np.random.default_rng(3))
    assert made is not None
    goals = made.real.clip.points68[:, [36, 39, 30]].astype(int)
    eye = (goals[:, 0] + goals[:, 1]) // 2
    for frame, points in zip(made.clip.frames, np.stack([eye, goals[:, 2]], axis=1), strict=True):
        for x, y in points:
            near = frame[y - 3 : y + 4, x - 3 : x + 4].mean()
            assert near > frame[made.mask[0] > 0.9].mean() + 20  # type: ignore[index]


def _write_marked(path: Path) -> None:
    """Write a larger, turned face with disks on its five points."""
    turn = 1.6 * np.array([[0.95, -0.3], [0.3, 0.95]])
    with TrackWriter(path, track_meta(image_format="png", quality=0, height=300, width=300)) as w:
        for frame in range(20):
            points5, points68 = (
                (p @ turn.T + (70, 50)).astype(np.float32) for p in (FACE_POINTS5, FACE_POINTS68)
            )
            crop = np.full((250, 250, 3), 60, np.uint8)
            for x, y in points5 - (10, 10):
                cv2.circle(crop, (round(x), round(y)), 8, (250,) * 3, -1)
            w.add(
                frame,
                crop,
                (10, 10, 260, 260),
                box=(60, 60, 150, 150),
                points5=points5,
                points68=points68,
                score=1.0,
            )


def test_what_is_not_stored_is_not_blended_in(tmp_path: Path) -> None:
    """A face at the edge of its crop has black beside it, which must not show."""
    real_store(tmp_path, num_real=2)
    path = tmp_path / "tracks/toy/real/train00/0.zip"
    path.unlink()
    with TrackWriter(path, track_meta()) as writer:
        for frame in range(20):
            # The right third of the face is cut off.
            writer.add(
                frame,
                np.full((64, 44, 3), 200, np.uint8),
                (20, 30, 64, 94),
                box=(36, 46, 64, 78),
                points5=FACE_POINTS5 + np.float32([20, 30]),
                points68=FACE_POINTS68 + np.float32([20, 30]),
                score=0.9,
            )
    maker = forger(tmp_path)
    assert maker.try_to_make("cross_blend", 1, np.random.default_rng(0)) is None
    for seed in range(5):
        made = maker.try_to_make("self_blend", 0, np.random.default_rng(seed))
        assert made is not None
        real, fake = made.real.clip.frames, made.clip.frames
        black = real.max(axis=3) == 0
        assert black.any()
        assert fake[black].max() <= 4
        assert fake[real.min(axis=3) > 190].min() > 160


UNMOVED = {
    **{"rotation_deg": (0, 0), "zoom": (0, 0), "shift": (0, 0)},
    **{"colour": 0, "tint": 0, "max_delay": 0},
}


def test_grey_stays_grey_but_for_the_tint(tmp_path: Path) -> None:
    real_store(tmp_path, num_real=1)
    _write_stretched(tmp_path / "tracks/toy/real/train00/0.zip", 1.0)
    for tint in (0, 0.05):
        options = SelfBlend(**{**UNMOVED, "colour": 0.2, "tint": tint})  # type: ignore[arg-type]
        maker, colourful, changed = forger(tmp_path, self_blend=options), 0, 0
        for seed in range(4):
            made = maker.try_to_make("self_blend", 0, np.random.default_rng(seed))
            assert made is not None
            fake, real = made.clip.frames.astype(int), made.real.clip.frames
            colourful = max(colourful, int(np.ptp(fake, axis=3).max()))
            changed = max(changed, int(np.abs(fake - real).max()))
        assert changed > 15
        assert (colourful > 4) == bool(tint)


def test_a_blend_with_itself_is_delayed_moved_and_recoloured(root: Path) -> None:
    shape = MaskShape(feather=(0.03, 0.03))
    for change in ({}, {"shift": (0.03, 0.03)}, {"colour": 0.1}, {"tint": 0.1}, {"max_delay": 3}):
        options = SelfBlend(**{**UNMOVED, **change})  # type: ignore[arg-type]
        maker = forger(root, self_blend=options, mask=shape)
        differences = []
        for seed in range(4):
            made = maker.try_to_make("self_blend", 0, np.random.default_rng(seed))
            assert made is not None
            change_of_pixels = np.abs(made.clip.frames.astype(int) - made.real.clip.frames)
            differences.append(change_of_pixels.mean())
        assert (max(differences) > 0.1) == bool(change), change


def test_masks_of_blends_hold_still_with_the_face(tmp_path: Path) -> None:
    """The stored face moves evenly, so the mask in face coordinates does not change at all."""
    real_store(tmp_path)
    for name in ("cross_blend", "self_blend"):
        made = forger(tmp_path).try_to_make(name, 0, np.random.default_rng(4))
        assert made is not None
        assert made.mask is not None
        points = made.clip.points68
        for mask, shift in zip(
            made.mask, points.mean(axis=1) - points[0].mean(axis=0), strict=True
        ):
            back = np.column_stack([np.eye(2), -shift])
            still = cv2.warpAffine(mask, back, (SIZE, SIZE))
            assert np.abs(still - made.mask[0]).sum() < 0.03 * made.mask[0].sum()


def test_masks_fit_any_size() -> None:
    for size in (16, 33, 224, 256):
        clip = moving_face([turned(0, 0, 0)], size=128)
        scaled = clip.points68 * np.float32(size / 128)
        frames = np.zeros((1, size, size, 3), np.uint8)
        small = type(clip)(frames=frames, frame_index=clip.frame_index, points68=scaled)
        masks = face_masks(small, MaskShape(erosion=(0, 0)).draw(np.random.default_rng(0)))
        assert masks.values.shape == (1, size, size)
        centre = scaled[0].mean(axis=0).astype(int)
        assert masks.values[0, centre[1], centre[0]] > 0.8


def test_a_lone_person_is_nobody_elses_match(tmp_path: Path) -> None:
    real_store(tmp_path, num_real=1)
    maker = forger(tmp_path)
    assert maker.try_to_make("cross_blend", 0, np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    ("block", "wrong"),
    [
        (CrossBlend, {"candidates": 0}),
        (CrossBlend, {"max_distance": 1.5}),
        (SelfBlend, {"zoom": (0.2, 0.1)}),
        (SelfBlend, {"rotation_deg": (0, 90)}),
    ],
)
def test_impossible_options_are_named(
    block: type[CrossBlend | SelfBlend], wrong: dict[str, object]
) -> None:
    with pytest.raises(DataError, match=rf"fake_from_real\.\w+_blend\.{next(iter(wrong))} is"):
        block(**wrong)  # type: ignore[arg-type]
