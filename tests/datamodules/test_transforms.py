"""Clip augmentation: one draw for all frames, its own noise for each, reproducible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from jsonargparse import ArgumentParser

from datamodules.colours import Tones
from datamodules.errors import DataError
from datamodules.transforms import (
    FLIP_68,
    ClipAugmentation,
    ClipTransform,
    flip_matrix,
    rotation_matrix,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIXELS: dict[str, dict[str, Any]] = {
    "erase": {"erase_prob": 1.0},
    "colour": {"colour_prob": 1.0, "colour_strength": 0.4},
    "jpeg": {"jpeg_prob": 1.0, "jpeg_quality": (20, 40)},
    "blur": {"blur_prob": 1.0, "blur_sigma_px": (1.0, 2.0)},
    "tones": {"tone_prob": 1.0},
}


def _clip(num_frames: int = 5) -> NDArray[np.uint8]:
    image = np.random.default_rng(0).integers(30, 226, (48, 48, 3), dtype=np.uint8)
    return np.repeat(image[None], num_frames, axis=0)


def _augment(seed: int, frames: NDArray[np.uint8], **changes: Any) -> NDArray[np.uint8]:
    transform = ClipTransform(ClipAugmentation(**changes))
    return transform.pixels(frames, np.random.default_rng(seed))


def test_nothing_happens_by_default() -> None:
    transform = ClipTransform(ClipAugmentation())
    frames, rng = _clip(), np.random.default_rng(0)
    points = np.ones((5, 5, 2), np.float32)
    np.testing.assert_array_equal(transform.pixels(frames, rng), frames)
    np.testing.assert_array_equal(transform.jitter(points, rng), points)
    assert not any(transform.draw_flip(rng) for _ in range(50))
    assert not any(transform.draw_rotation(rng) for _ in range(50))


@pytest.mark.parametrize("kind", PIXELS)
def test_all_frames_get_the_same_draw(kind: str) -> None:
    frames = _clip()
    before = frames.copy()
    first = _augment(1, frames, **PIXELS[kind])
    assert first.shape == frames.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(frames, before)
    assert np.abs(first[0].astype(int) - frames[0]).mean() > 0.5
    for frame in first[1:]:
        np.testing.assert_array_equal(frame, first[0])
    assert not np.array_equal(first, _augment(2, frames, **PIXELS[kind]))


@pytest.mark.parametrize("kind", PIXELS)
def test_a_draw_depends_on_the_generator_alone(kind: str) -> None:
    frames = _clip()
    transform = ClipTransform(ClipAugmentation(**PIXELS[kind]))
    transform.pixels(frames, np.random.default_rng(77))
    np.random.seed(3)
    again = transform.pixels(frames, np.random.default_rng(1))
    np.testing.assert_array_equal(again, _augment(1, frames, **PIXELS[kind]))


def test_erasing_blackens_one_rectangle() -> None:
    black = (_augment(0, _clip(), **PIXELS["erase"]) == 0).all(axis=(0, 3))
    rows, columns = np.flatnonzero(black.any(axis=1)), np.flatnonzero(black.any(axis=0))
    assert black[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert 0.1 * 48 - 1 <= len(rows) <= 0.4 * 48 + 1


def test_noise_differs_between_frames_and_has_its_strength() -> None:
    noisy = _augment(0, _clip(), noise_prob=1.0, noise_std=(5.0, 5.0)).astype(int)
    assert not np.array_equal(noisy[0], noisy[1])
    assert abs((noisy - _clip()).std() - 5) < 0.2
    # Independent in time: the difference of two frames has sqrt(2) the spread.
    assert abs((noisy[1] - noisy[0]).std() - 5 * 2**0.5) < 0.3


def test_jitter_moves_every_point_within_its_bound() -> None:
    transform = ClipTransform(ClipAugmentation(landmark_jitter_px=4.0))
    points = np.zeros((32, 5, 2), np.float32)
    moved = transform.jitter(points, np.random.default_rng(0))
    assert moved.dtype == np.float32
    assert 3.5 < np.abs(moved).max() <= 4
    assert len(np.unique(moved)) == moved.size


def test_flips_are_drawn_at_their_rate() -> None:
    transform = ClipTransform(ClipAugmentation(flip_prob=0.25))
    rng = np.random.default_rng(0)
    assert abs(np.mean([transform.draw_flip(rng) for _ in range(2000)]) - 0.25) < 0.04


def test_flipped_matrix_mirrors_columns() -> None:
    matrix = np.array([[1.5, 0.2, 3.0], [-0.2, 1.5, 7.0]])
    points = np.array([[0.0, 0.0, 1.0], [10.0, 4.0, 1.0]])
    plain, flipped = points @ matrix.T, points @ flip_matrix(matrix, 64).T
    np.testing.assert_allclose(flipped[:, 0], 63 - plain[:, 0])
    np.testing.assert_allclose(flipped[:, 1], plain[:, 1])


def test_rotations_are_drawn_at_their_rate_and_within_their_limit() -> None:
    transform = ClipTransform(ClipAugmentation(rotate_prob=0.5, rotate_deg=10))
    rng = np.random.default_rng(0)
    drawn = np.array([transform.draw_rotation(rng) for _ in range(400)])
    turned = drawn[drawn != 0]
    assert len(turned) == pytest.approx(200, abs=40)
    assert -10 <= turned.min() < -9
    assert 9 < turned.max() <= 10


def test_a_rotation_turns_about_the_middle_against_the_clock() -> None:
    matrices = np.stack([np.eye(2, 3), np.array([[2.0, 0, 3], [0, 2, 5]])])
    rotated = rotation_matrix(matrices, 11, 90)
    # The middle stays; what is to its right goes up.
    np.testing.assert_allclose(rotated[0] @ (5, 5, 1), (5, 5), atol=1e-12)
    np.testing.assert_allclose(rotated[0] @ (8, 5, 1), (5, 2), atol=1e-12)
    np.testing.assert_allclose(rotated[1] @ (1, 0, 1), rotated[0] @ (5, 5, 1), atol=1e-12)


def test_tones_are_one_of_three_changes_each_within_its_limits() -> None:
    frames = np.random.default_rng(1).integers(60, 180, (2, 16, 16, 3), dtype=np.uint8)
    nothing = {"brightness": 0, "contrast": 0, "main_colours": 0}
    nothing |= {"hue_deg": 0, "saturation": 0, "value": 0}
    changed = 0
    for name, value in (("brightness", 0.1), ("main_colours", 0.3), ("hue_deg", 40.0)):
        tones = Tones(**{**nothing, name: value})
        found = [tones.apply(frames, np.random.default_rng(seed)) for seed in range(60)]
        apart = np.array([np.abs(one.astype(int) - frames).mean() for one in found])
        # Going to hue and back costs some grey levels.
        share = (apart > 0.4).mean()
        assert 0.15 < share < 0.55
        changed += share
        if name == "brightness":
            assert apart.max() <= 26
    assert changed < 1.1


def test_tones_change_all_colours_of_a_kind_alike() -> None:
    """A shift along the main colours is one for the clip, so that nothing flickers."""
    frames = np.random.default_rng(1).integers(60, 180, (2, 16, 16, 3), dtype=np.uint8)
    frames[1] //= 2
    tones = Tones(main_colours=0.3)
    moved = tones._along_main_colours(frames, np.random.default_rng(0)).astype(int) - frames
    assert moved.reshape(-1, 3).std(axis=0).max() == 0
    assert np.abs(moved).max() > 0


def test_mirrored_landmarks_are_an_involution_that_keeps_the_midline() -> None:
    np.testing.assert_array_equal(FLIP_68[FLIP_68], np.arange(68))
    midline = [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    assert [i for i in range(68) if FLIP_68[i] == i] == midline
    pairs = {0: 16, 17: 26, 31: 35, 36: 45, 37: 44, 41: 46, 39: 42, 48: 54, 50: 52, 60: 64, 67: 65}
    assert {i: int(FLIP_68[i]) for i in pairs} == pairs


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip_prob": 1.5},
        {"jpeg_quality": (90, 50)},
        {"jpeg_quality": (0, 50)},
        {"blur_sigma_px": (0.0, 1.0)},
        {"landmark_jitter_px": -1.0},
        {"noise_std": (float("nan"), 2.0)},
        {"rotate_deg": 181.0},
        {"tone_prob": -0.1},
    ],
)
def test_impossible_parameters_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=f"augmentation.{next(iter(wrong))} is"):
        ClipAugmentation(**wrong)


def test_a_yaml_block_becomes_an_augmentation() -> None:
    parser = ArgumentParser()
    parser.add_argument("--augmentation", type=ClipAugmentation | None, default=None)
    block = "{flip_prob: 0.5, jpeg_quality: [60, 90], tones: {hue_deg: 10}}"
    found = parser.instantiate(parser.parse_args([f"--augmentation={block}"]))
    assert found.augmentation == ClipAugmentation(
        flip_prob=0.5, jpeg_quality=(60, 90), tones=Tones(hue_deg=10)
    )
