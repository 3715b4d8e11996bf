"""Figures on the same-footage pairs: the part of a test set that shortcuts cannot win.

Real and fake videos often differ in source, codec, size and rate, and a detector may read those
instead of the forgery. A fake and the real video of its footage share them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from callbacks import read_clip_scores, read_video_scores
from lightning_modules.bootstrap import bootstrap_interval
from lightning_modules.metrics import average_precision, equal_error_rate, roc_auc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from datamodules.schema import VideoRecord


def paired_metrics(
    scores: Path, records: Sequence[VideoRecord], num_resamples: int = 2000
) -> dict[str, float] | None:
    """Measure a score ledger on its same-footage pairs alone.

    Args:
        scores: `scores/test.csv` of a run; the videos' file lies beside it.
        records: The manifest, which tells the pairs.
        num_resamples: Bootstrap resamples behind the interval.

    Returns:
        The metrics of a test, on the videos of which both sides have a score; None where the
        manifest knows no such pair, or where they are the whole set.
    """
    videos = {
        row.video_id: row
        for row in read_video_scores(scores.with_name(f"{scores.stem}-videos.csv"))
        if row.score is not None
    }
    known = {record.video_id: record for record in records}
    pairs = [(v, known[v].paired_real) for v in videos if v in known]
    kept = sorted({side for v, real in pairs if real in videos for side in (v, str(real))})
    if not kept or len(kept) == len(videos):
        return None
    clips = [row for row in read_clip_scores(scores) if row.video_id in set(kept)]
    label = np.array([videos[v].label for v in kept])
    score = np.array([videos[v].score for v in kept], dtype=np.float64)
    people = [(*known[v].group_ids, v)[0] for v in kept]
    group = np.unique(people, return_inverse=True)[1].astype(np.int64)
    low, high = bootstrap_interval(label, score, group, num_resamples=num_resamples)
    clip_label = np.array([row.label for row in clips])
    return {
        "clip_auc": roc_auc(clip_label, np.array([row.logit for row in clips])),
        "video_auc": roc_auc(label, score),
        "video_auc_low": low,
        "video_auc_high": high,
        "video_eer": equal_error_rate(label, score),
        "video_ap": average_precision(label, score),
        "num_videos": float(len(kept)),
        "num_clips": float(len(clips)),
    }
