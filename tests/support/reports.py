"""Scored videos made up for tests of what is shown of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.predicting.report import FaceTimes, ModelReport, VideoFacts, VideoReport
from experiments.predicting.scores import ClipScore, TrackScore
from tests.support.scorers import clip_spec

Row = tuple[int, Sequence[int], Sequence[float], tuple[float, float, float, float]]
"""Person, frames, their scores, and the box in all of them."""


def scored_track(number: int, frames: Sequence[int], scores: Sequence[float]) -> TrackScore:
    """Make the scores of a track at 25 frames a second, with one clip."""
    index = np.array(frames, np.int64)
    mean = float(np.nanmean(scores)) if len(scores) else 0.0
    clip = ClipScore(frames[0], frames[-1], frames[0] / 25, (frames[-1] + 1) / 25, mean)
    return TrackScore(number, (clip,), index, index / 25, np.array(scores, float))


def scored_video(
    *rows: Row,
    num_frames: int = 50,
    size: tuple[int, int] = (96, 128),
    models: int = 1,
    **video: Any,
) -> VideoReport:
    """Make a report; each further model finds everything more suspicious by 0.1.

    Args:
        rows: The tracks.
        num_frames: Of the video.
        size: Height and width of the video.
        models: How many models.
        video: Facts of the video that differ, and `times_s`.
    """
    times_s = np.asarray(video.pop("times_s", np.arange(num_frames) / 25))
    facts = {
        **{"name": "talk.mp4", "sha256": "0" * 64, "fps": 25.0, "num_frames": num_frames},
        **{"duration_s": float(times_s[-1]) + 1 / 25, "decoder": "decord"},
        **{"height": size[0], "width": size[1]},
    }
    made = tuple(
        ModelReport(
            spec=clip_spec(f"toy{model}"),
            settings={"stride": 1, "video_rule": "mean"},
            tracks=tuple(
                scored_track(number, frames, [score + 0.1 * model for score in scores])
                for number, (_, frames, scores, _) in enumerate(rows)
            ),
        )
        for model in range(models)
    )
    faces = tuple(
        FaceTimes(
            number,
            person,
            0,
            np.array(frames, np.int64),
            times_s[np.array(frames, np.int64)],
            np.tile(np.array(box, np.float32), (len(frames), 1)),
        )
        for number, (person, frames, _, box) in enumerate(rows)
    )
    return VideoReport(
        video=VideoFacts(**(facts | video)),
        times_s=times_s,
        settings={"backend": "given", "backend_version": "1"},
        reason="" if rows else "no face found",
        faces=faces,
        models=made,
        dropped=(),
    )
