"""Perturbations of frames: stronger levels are worse, equal seeds are equal, sizes and rates."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.perturbations.applying import Footage, outcome_of, perturbed_frames
from datamodules.perturbations.encoding import Encoding
from datamodules.perturbations.table import (
    LEVELS,
    NAMES,
    SEVEN,
    FaceChange,
    Perturbation,
    PixelChange,
    Reencoding,
    chosen,
    perturbation,
)
from tests.support.cartoon import blank, draw_face

NUM, HEIGHT, WIDTH = 10, 272, 298
FOOTAGE = Footage(NUM, 25.0, HEIGHT, WIDTH, "some video", face_px=110)


def _clip() -> NDArray[np.uint8]:
    """A face that moves before a wall with fine texture, from frame to frame a little."""
    wall = (
        np.random.default_rng(0).normal(0, 12, (HEIGHT, WIDTH, 1))
        + np.linspace(0, 60, WIDTH)[:, None]
    )
    frames = [
        np.clip(draw_face(blank(HEIGHT, WIDTH), (130 + 3 * i, 130), 55, 2 * i) + wall, 0, 255)
        for i in range(NUM)
    ]
    return np.stack(frames).astype(np.uint8)


CLIP = _clip()


def run(change: Perturbation, footage: Footage = FOOTAGE, seed: int = 0) -> NDArray[np.uint8]:
    return np.stack(list(perturbed_frames(CLIP, change, footage, seed)))


def as_shown(change: Perturbation) -> NDArray[np.uint8]:
    """What a viewer sees at the time and the size of each source frame."""
    shown = outcome_of(change, FOOTAGE).shown
    frames = run(change)[np.searchsorted(shown, np.arange(NUM), side="right") - 1]
    return np.stack([cv2.resize(f, (WIDTH, HEIGHT)) for f in frames])


def psnr(changed: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((changed.astype(float) - CLIP) ** 2)))


def ssim(changed: NDArray[np.uint8]) -> float:
    """Mean structural similarity of the luma (Wang et al., IEEE TIP 2004; windows of 11)."""

    def mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5))

    values = []
    for one, other in zip(CLIP, changed, strict=True):
        a, b = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY).astype(float) for x in (one, other))
        p, q = mean(a), mean(b)
        top = (2 * p * q + 6.5025) * (2 * (mean(a * b) - p * q) + 58.5225)
        below = (p**2 + q**2 + 6.5025) * (mean(a * a) - p**2 + mean(b * b) - q**2 + 58.5225)
        values.append(float((top / below).mean()))
    return float(np.mean(values))


@pytest.mark.parametrize("name", NAMES)
def test_a_higher_level_is_a_worse_picture(name: str) -> None:
    levels = [as_shown(perturbation(name, level)) for level in LEVELS]
    quality = [psnr(frames) for frames in levels]
    assert all(a > b for a, b in pairwise(quality)), quality
    if name != "saturation":  # which leaves the luma, and SSIM with it, as it was
        similarity = [ssim(frames) for frames in levels]
        assert all(a > b for a, b in pairwise(similarity)), similarity


@pytest.mark.parametrize("name", ["noise", "blocks", "compression", "hevc"])
def test_equal_seeds_give_equal_pixels(name: str) -> None:
    change = perturbation(name, 3)
    assert np.array_equal(run(change), run(change))


@pytest.mark.parametrize("name", ["noise", "blocks"])
def test_draws_differ_by_seed_video_and_frame(name: str) -> None:
    change = perturbation(name, 3)
    first = run(change)
    assert not np.array_equal(first, run(change, seed=1))
    assert not np.array_equal(first, run(change, replace(FOOTAGE, name="another")))
    drawn = first.astype(int) - CLIP
    assert not np.array_equal(drawn[0], drawn[1])


def test_a_frame_is_changed_alike_however_long_the_video() -> None:
    change = perturbation("noise", 2)
    cut = list(perturbed_frames(CLIP[:3], change, replace(FOOTAGE, num_frames=3), 0))
    assert np.array_equal(cut, run(change)[:3])


def test_parameters_are_those_of_deeperforensics() -> None:
    # Two of the table, and what they do to a pixel.
    saturated = perturbation("saturation", 5).change
    assert isinstance(saturated, PixelChange)
    assert saturated.value == 0
    grey = run(perturbation("saturation", 5))
    assert np.ptp(grey.astype(int), axis=3).max() <= 1
    dark = run(perturbation("contrast", 1))
    assert np.array_equal(dark, np.rint(CLIP * np.float32(0.85)).astype(np.uint8))
    covered = (run(perturbation("blocks", 5)) == 128).all(axis=3).sum(axis=(1, 2))
    assert covered.max() <= 80 * 64  # one block unit of 256 pixels fits, blocks overlap
    assert covered.min() > 40 * 64
    noisy = run(perturbation("noise", 1)).astype(float) - CLIP
    inside = noisy[(CLIP > 60) & (CLIP < 195)]
    # luma of 255 / 219, colours of 255 / 224 times 1.403, 0.79 and 1.773 on the channels
    assert inside.std() == pytest.approx(255 * np.sqrt(0.001) * 1.9, rel=0.15)


def test_an_encoder_gets_every_frame_of_any_size() -> None:
    for size in ((71, 75), (72, 76)):
        small = np.ascontiguousarray(CLIP[:, : size[0], : size[1]])
        footage = Footage(NUM, 29.97, *size, "odd")
        for name in ("compression", "hevc", "resize", "social"):
            change = perturbation(name, 1)
            frames = list(perturbed_frames(small, change, footage, 0))
            told = outcome_of(change, footage)
            assert len(frames) == len(told.shown) == NUM
            assert {f.shape for f in frames} == {(told.height, told.width, 3)}


def test_frames_are_left_out_evenly() -> None:
    half = Perturbation("half", 0, Reencoding(max_fps=12.5))
    told = outcome_of(half, FOOTAGE)
    assert told.shown.tolist() == [0, 2, 4, 6, 8]
    assert told.fps == 12.5
    assert np.array_equal(run(half), CLIP[::2])
    assert outcome_of(half, replace(FOOTAGE, fps=10.0)).shown.tolist() == list(range(NUM))


def test_sizes_follow_the_side_or_the_face() -> None:
    by_side = Perturbation("side", 0, Reencoding(short_side=136))
    told = outcome_of(by_side, FOOTAGE)
    assert (told.height, told.width) == (136, 150)  # even, and the ratio kept within a pixel
    by_face = Perturbation("face", 0, Reencoding(face_px=55))
    assert (outcome_of(by_face, FOOTAGE).height, run(by_face).shape[1]) == (136, 136)
    larger = Perturbation("face", 0, Reencoding(face_px=300))
    assert outcome_of(larger, FOOTAGE).height == HEIGHT  # never enlarged


def test_a_face_or_all_but_it_is_hidden() -> None:
    boxes = {i: [np.array([80, 70, 180, 190], np.float32)] for i in range(NUM - 1)}
    footage = replace(FOOTAGE, faces=boxes)
    face = run(Perturbation("face", 0, FaceChange(hidden="face", grow=1.0)), footage)
    rest = run(Perturbation("rest", 0, FaceChange(hidden="rest", grow=1.0)), footage)
    assert (face[0, 70:190, 80:180] == 128).all()
    assert np.array_equal(face[0, :70], CLIP[0, :70])
    assert np.array_equal(rest[0, 70:190, 80:180], CLIP[0, 70:190, 80:180])
    assert (rest[0, :70] == 128).all()
    assert np.array_equal(face[-1], CLIP[-1])  # no face is known there
    assert (rest[-1] == 128).all()


def test_names_groups_and_mistakes() -> None:
    assert [p.key for p in chosen(["blur", "blur"], [3, 1])] == ["blur-1", "blur-3"]
    assert [p.name for p in chosen(["seven"], [1])] == list(SEVEN)
    assert len(chosen(["all"], LEVELS)) == len(NAMES) * 5
    with pytest.raises(DataError, match=r"'fog'; there are: saturation, contrast"):
        chosen(["fog"], [1])
    with pytest.raises(DataError, match=r"level 6 is none of 1 to 5"):
        perturbation("blur", 6)
    with pytest.raises(ValueError, match="either crf or kbps"):
        Encoding(crf=20, kbps=100)
