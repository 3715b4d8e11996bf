from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.predicting.scores import (
    ClipScore,
    TrackScore,
    segments,
    video_score,
)
from lightning_modules.pooling import Pooling


def track(number: int, frames: list[int], scores: list[float], clips: list[float]) -> TrackScore:
    return TrackScore(
        track=number,
        clips=tuple(ClipScore(frames[0], frames[-1], 0.0, 1.0, score) for score in clips),
        frame_index=np.array(frames, np.int64),
        time_s=np.array(frames) / 25,
        frame_score=np.array(scores, float),
    )


def test_the_video_score_weighs_clips_not_tracks() -> None:
    long = track(0, [0, 1, 2], [0.1] * 3, [0.0, 0.2, 0.4])
    short = track(1, [0], [1.0], [1.0])
    assert long.score == pytest.approx(0.2)
    assert video_score([long, short]) == pytest.approx(0.4)


def test_scores_are_pooled_by_the_rule_of_the_method() -> None:
    rule = Pooling("top_k", 2)
    tracks = [
        replace(track(0, [0, 1], [0.1] * 2, [0.0, 0.2, 0.4]), rule=rule),
        replace(track(1, [0], [1.0], [1.0]), rule=rule),
    ]
    assert [t.score for t in tracks] == pytest.approx([0.3, 1.0])
    assert video_score(tracks) == pytest.approx(0.7)


def test_without_clips_there_is_no_score() -> None:
    assert video_score([]) is None


@pytest.mark.parametrize(
    ("frames", "scores", "wanted"),
    [
        ([3, 4, 5], [0.1, 0.2, 0.3], [[0, 1, 2]]),
        ([3, 4, 9, 10], [0.1, 0.2, 0.3, 0.4], [[0, 1], [2, 3]]),
        ([0, 1, 2], [0.1, np.nan, 0.3], [[0], [2]]),
        ([0, 1], [np.nan, np.nan], []),
    ],
    ids=["whole", "missing frames", "frame without score", "no score at all"],
)
def test_segments_end_at_gaps(
    frames: list[int], scores: list[float], wanted: list[list[int]]
) -> None:
    rows = np.arange(len(frames))
    found = segments(np.array(frames), np.array(scores))
    assert [rows[run].tolist() for run in found] == wanted
