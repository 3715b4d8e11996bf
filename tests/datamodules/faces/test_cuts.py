from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.faces.cuts import CutFinder
from datamodules.video.reader import open_video


def texture(seed: int, width: int = 2000) -> NDArray[np.uint8]:
    """A wide picture of smooth random shapes, shape (96, width, 3)."""
    x, y = np.meshgrid(np.arange(width), np.arange(96))
    rng = np.random.default_rng(seed)
    picture = np.full((96, width, 3), 128.0)
    for _ in range(12):
        a, b = rng.uniform(-0.2, 0.2, 2)
        picture += rng.uniform(-30, 30, 3) * np.sin(a * x + b * y + rng.uniform(0, 6))[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def shot(seed: int, num_frames: int = 20, speed: float = 0.5) -> list[NDArray[np.uint8]]:
    """A pan over a texture, `speed` pixels a frame over a picture of 128 pixels."""
    wide = texture(seed)
    starts = (np.arange(num_frames) * speed).astype(int)
    return [wide[:, start : start + 128] for start in starts]


def cuts_of(frames: Iterable[NDArray[np.uint8]]) -> list[int]:
    finder = CutFinder()
    for frame in frames:
        finder.add(frame)
    return finder.cuts()


def test_cuts_lie_at_the_first_frame_of_the_new_shot() -> None:
    assert cuts_of([*shot(0), *shot(1, 15), *shot(2, 4), *shot(3)]) == [20, 35, 39]


def test_one_frame_and_none_have_no_cut() -> None:
    assert cuts_of([]) == []
    assert cuts_of(shot(0, 1)) == []


@pytest.mark.parametrize("speed", [1, 4, 10, 25])
def test_a_pan_is_no_cut(speed: float) -> None:
    assert cuts_of(shot(0, 40, speed)) == []


@pytest.mark.parametrize("length", [1, 2])
def test_a_flash_is_no_cut(length: int) -> None:
    frames = shot(0)
    for i in range(length):
        frames[9 + i] = np.minimum(frames[9 + i].astype(int) + 120, 255).astype(np.uint8)
    assert cuts_of(frames) == []


def test_dissolves_and_fades_are_no_cuts() -> None:
    for other in (shot(1, 30), [np.zeros_like(shot(1)[0])] * 30):
        weights = np.clip((np.arange(30) - 8) / 12, 0, 1)
        mixed = [
            ((1 - w) * a + w * b).astype(np.uint8)
            for w, a, b in zip(weights, shot(0, 30), other, strict=True)
        ]
        assert cuts_of(mixed) == []


def test_motion_in_part_of_the_picture_is_no_cut() -> None:
    frames = [frame.copy() for frame in shot(0, 30, 0)]
    for i, frame in enumerate(frames):
        frame[30:70, 3 * i : 3 * i + 30] = 250
    assert cuts_of(frames) == []


@pytest.mark.parametrize(
    ("name", "cuts"),
    [
        ("real/ffpp_253_c40.mp4", [176, 364]),
        ("fake/ffpp_Deepfakes/ffpp_Deepfakes_253_183_c40.mp4", [176, 364]),
        ("real/eason_chan_099.mp4", []),  # much motion
    ],
)
def test_cuts_of_real_videos(shared_videos: Path, name: str, cuts: list[int]) -> None:
    with open_video(shared_videos / name, "decord", None) as reader:
        assert cuts_of(reader) == cuts
