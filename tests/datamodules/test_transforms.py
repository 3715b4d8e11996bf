"""Clip augmentation: one draw for all frames, its own noise for each, reproducible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from jsonargparse import ArgumentParser

from datamodules.errors import DataError
from datamodules.transforms import FLIP_68, ClipAugmentation, ClipTransform, flip_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIXELS: dict[str, dict[str, Any]] = {
    "erase": {"erase_prob": 1.0},
    "colour": {"colour_prob": 1.0, "colour_strength": 0.4},
    "jpeg": {"jpeg_prob": 1.0, "jpeg_quality": (20, 40)},
    "blur": {"blur_prob": 1.0, "blur_sigma_px": (1.0, 2.0)},
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
    ],
)
def test_impossible_parameters_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=f"augmentation.{next(iter(wrong))} is"):
        ClipAugmentation(**wrong)


def test_a_yaml_block_becomes_an_augmentation() -> None:
    parser = ArgumentParser()
    parser.add_argument("--augmentation", type=ClipAugmentation | None, default=None)
    block = "{flip_prob: 0.5, jpeg_quality: [60, 90]}"
    found = parser.instantiate(parser.parse_args([f"--augmentation={block}"]))
    assert found.augmentation == ClipAugmentation(flip_prob=0.5, jpeg_quality=(60, 90))
