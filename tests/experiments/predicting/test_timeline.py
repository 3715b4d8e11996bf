from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.predicting.timeline import draw_timeline
from tests.support.reports import Row, scored_video

#: BGR of the first two colours.
BLUE, ORANGE = (0xB2, 0x72, 0x00), (0x00, 0x5E, 0xD5)
BOX = (0.0, 0.0, 9.0, 9.0)


def row(person: int, frames: list[int], score: float) -> Row:
    return person, frames, [score] * len(frames), BOX


def columns(path: Path, colour: tuple[int, int, int]) -> NDArray[np.float64]:
    """Columns of the plot area, 0 to 1, in which a colour is drawn."""
    image = cv2.imread(str(path))
    assert image is not None
    near = (np.abs(image.astype(int) - colour).max(axis=2) < 30)[:, : int(image.shape[1] * 0.7)]
    return np.asarray(np.flatnonzero(near.any(axis=0)) / image.shape[1], np.float64)


def test_each_person_has_a_colour_and_gaps_stay_open(tmp_path: Path) -> None:
    path = tmp_path / "timeline.png"
    broken, whole = [*range(50), *range(150, 250)], list(range(250))
    draw_timeline(path, scored_video(row(1, broken, 0.9), row(2, whole, 0.1), num_frames=250))
    gap, line = np.diff(columns(path, BLUE)), np.diff(columns(path, ORANGE))
    assert gap.max() > 0.15  # 4 of 10 seconds are missing
    assert line.max() < 0.01


def test_tracks_of_a_person_share_a_colour(tmp_path: Path) -> None:
    path = tmp_path / "timeline.png"
    early, late = row(1, list(range(20)), 0.9), row(1, list(range(30, 50)), 0.2)
    draw_timeline(path, scored_video(early, late))
    found = columns(path, BLUE)
    assert found.min() < 0.1
    assert found.max() > 0.6
    assert not len(columns(path, ORANGE))


def test_a_single_frame_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "timeline.png"
    draw_timeline(path, scored_video(row(1, [12], 0.7)))
    assert len(columns(path, BLUE))


@pytest.mark.parametrize("name", ["cost $5 and $6.mp4", "spaces é 视频.mp4", "x" * 300])
def test_any_name_and_no_face_make_a_picture(tmp_path: Path, name: str) -> None:
    path = tmp_path / "timeline.png"
    draw_timeline(path, scored_video(name=name))
    assert cv2.imread(str(path)) is not None


def test_many_people_share_one_legend(tmp_path: Path) -> None:
    path = tmp_path / "timeline.png"
    rows = [row(k + 1, list(range(10 * k, 10 * k + 9)), 0.5) for k in range(40)]
    draw_timeline(path, scored_video(*rows, num_frames=400))
    assert cv2.imread(str(path)) is not None
