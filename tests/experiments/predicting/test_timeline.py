from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.predicting.scores import ClipScore, TrackScore
from experiments.predicting.timeline import draw_timeline

#: BGR of the first two colours.
BLUE, ORANGE = (0xB2, 0x72, 0x00), (0x00, 0x5E, 0xD5)


def track(number: int, frames: list[int], score: float) -> TrackScore:
    index = np.array(frames, np.int64)
    clip = ClipScore(frames[0], frames[-1], frames[0] / 25, (frames[-1] + 1) / 25, score)
    return TrackScore(number, (clip,), index, index / 25, np.full(len(frames), score))


def columns(path: Path, colour: tuple[int, int, int]) -> NDArray[np.float64]:
    """Columns of the plot area, 0 to 1, in which a colour is drawn."""
    image = cv2.imread(str(path))
    assert image is not None
    near = (np.abs(image.astype(int) - colour).max(axis=2) < 30)[:, : int(image.shape[1] * 0.72)]
    return np.asarray(np.flatnonzero(near.any(axis=0)) / image.shape[1], np.float64)


def test_each_track_has_its_colour_and_gaps_stay_open(tmp_path: Path) -> None:
    path = tmp_path / "timeline.png"
    broken = track(0, [*range(50), *range(150, 250)], 0.9)
    whole = track(1, list(range(250)), 0.1)
    draw_timeline(path, [broken, whole], name="a.mp4", duration_s=10.0, score=0.4)
    gap, line = np.diff(columns(path, BLUE)), np.diff(columns(path, ORANGE))
    assert gap.max() > 0.15  # 4 of 10 seconds are missing
    assert line.max() < 0.01


def test_a_single_frame_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "timeline.png"
    draw_timeline(path, [track(0, [12], 0.5)], name="a.mp4", duration_s=1.0, score=0.5)
    assert len(columns(path, BLUE))


@pytest.mark.parametrize("name", ["cost $5 and $6.mp4", "spaces é 视频.mp4", "x" * 300])
def test_any_name_and_no_face_make_a_picture(tmp_path: Path, name: str) -> None:
    path = tmp_path / "timeline.png"
    draw_timeline(path, [], name=name, duration_s=0.0, score=None)
    assert cv2.imread(str(path)) is not None


def test_many_tracks_share_one_legend(tmp_path: Path) -> None:
    path = tmp_path / "timeline.png"
    tracks = [track(k, list(range(10 * k, 10 * k + 9)), 0.5) for k in range(40)]
    draw_timeline(path, tracks, name="crowd.mp4", duration_s=16.0, score=0.5)
    assert cv2.imread(str(path)) is not None
