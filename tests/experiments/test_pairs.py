from __future__ import annotations

from pathlib import Path

import pytest

from callbacks.ledger import ClipRow, VideoRow, write_rows
from datamodules.schema import VideoRecord
from experiments.pairs import paired_metrics

#: Video, label, score, the real video of its footage. The lonely fake is found most easily.
VIDEOS = (
    ("real/a", 0, 0.4, None),
    ("real/b", 0, 0.6, None),
    ("fake/a", 1, 0.7, "real/a"),
    ("fake/b", 1, 0.5, "real/b"),
    ("fake/alone", 1, 0.9, None),
    ("fake/lost", 1, 0.9, "real/lost"),
)


def record(video: str, label: int, pair: str | None) -> VideoRecord:
    return VideoRecord(
        video_id=video,
        path=f"{video}.mp4",
        label=label,
        dataset="toy",
        split="test",
        group_ids=(video[-1],),
        paired_real=pair,
    )


def write(folder: Path) -> Path:
    run = {"run": "r", "checkpoint": "c", "config": "f", "code": "g"}
    who = {"dataset": "toy", "compression": "", "method": "", "split": "test"}
    clips, videos = [], []
    for video, label, score, _ in VIDEOS:
        ids = {"video_id": video, "label": label, "score": score, **who, **run}
        videos.append(VideoRow(**ids, status="ok", num_clips=1))
        place = {"track": "0", "clip_index": 0, "first_frame": 0, "last_frame": 3}
        clips.append(ClipRow(**ids, **place, start_s=0.0, end_s=0.1, logit=score))
    write_rows(folder / "test.csv", ClipRow, clips)
    write_rows(folder / "test-videos.csv", VideoRow, videos)
    return folder / "test.csv"


def test_only_videos_with_their_counterpart_count(tmp_path: Path) -> None:
    records = [record(video, label, pair) for video, label, _, pair in VIDEOS]
    found = paired_metrics(write(tmp_path), records, num_resamples=100)
    assert found is not None
    assert found["num_videos"] == 4
    # Of the four comparisons only 0.5 against 0.6 is wrong.
    assert found["video_auc"] == pytest.approx(3 / 4)
    assert found["clip_auc"] == pytest.approx(3 / 4)


def test_a_manifest_without_pairs_has_no_such_figure(tmp_path: Path) -> None:
    records = [record(video, label, None) for video, label, _, _ in VIDEOS]
    assert paired_metrics(write(tmp_path), records) is None
