"""Same-footage pairs: the part of a test set that shortcuts cannot win.

Real and fake videos often differ in source, codec, size and rate, and a detector may read those
instead of the forgery. A fake and the real video of its footage share them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from experiments.evaluation.ledgers import read_evaluations
from lightning_modules.bootstrap import bootstrap_interval
from lightning_modules.metrics import average_precision, equal_error_rate, roc_auc

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from experiments.evaluation.ledgers import Evaluation


def same_footage(evaluation: Evaluation) -> NDArray[np.bool_]:
    """Tell the scored videos whose counterpart of the same footage has a score, too.

    Args:
        evaluation: Its ledger says which real video a fake was made of.

    Returns:
        Shape (V,), bool.
    """
    videos = evaluation.videos.select("video_id", "paired_real", "score")
    scored = videos.filter(pl.col("score").is_not_null())
    fakes = scored.filter(pl.col("paired_real").is_in(scored["video_id"].implode()))
    kept = pl.concat([fakes["video_id"], fakes["paired_real"]]).unique()
    return videos["video_id"].is_in(kept.implode()).to_numpy()


def paired_metrics(path: Path, num_resamples: int = 2000) -> dict[str, float] | None:
    """Measure a ledger on its same-footage pairs alone.

    Args:
        path: The ledger of one evaluation.
        num_resamples: Bootstrap resamples behind the interval.

    Returns:
        The metrics of a test, on the videos of which both sides have a score; None where the
        ledger knows no such pair, or where they are all that is scored.

    Raises:
        LedgerError: If it cannot be read.
    """
    whole = read_evaluations([path])[0]
    wanted = same_footage(whole)
    if not wanted.any() or wanted.sum() == whole.videos["score"].count():
        return None
    pairs = whole.select(wanted)
    label, score = pairs.label, pairs.score
    low, high = bootstrap_interval(
        label, score, pairs.group, shared=pairs.shared, num_resamples=num_resamples
    )
    return {
        "clip_auc": roc_auc(label[pairs.clip_video], pairs.clip_logit),
        "video_auc": roc_auc(label, score),
        "video_auc_low": low,
        "video_auc_high": high,
        "video_eer": equal_error_rate(label, score),
        "video_ap": average_precision(label, score),
        "num_videos": float(len(label)),
        "num_clips": float(len(pairs.clip_logit)),
    }
