"""Ledgers of known scores, without a network behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from callbacks.ledger import ClipScores, Names, ledger_frame, write_ledger
from callbacks.provenance import Provenance
from datamodules.schema import VideoRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SOURCE = Provenance(
    experiment="toy", seed=1, run="r", checkpoint="c", config="f", recipe="p", code="g"
)
CONSTANTS = {"stage": "test", "set": "toy", "pooling": "mean", "manifest": "m"}


def toy_record(video_id: str, label: int, **values: Any) -> VideoRecord:
    """A test video; its identity is the last letter of its name."""
    defaults = {
        "path": f"{video_id}.mp4",
        "dataset": "toy",
        "split": "test",
        "group_ids": (video_id[-1],),
        "method": "Deepfakes" if label else None,
        "compression": "c23",
        "fps": 10.0,
        "sha256": "0" * 64,
    }
    return VideoRecord(video_id=video_id, label=label, **{**defaults, **values})


def toy_frame(
    records: Sequence[VideoRecord],
    logits: Sequence[Sequence[float]],
    source: Provenance = SOURCE,
    frames: Sequence[Sequence[float]] | None = None,
    **constants: str | int,
) -> pl.DataFrame:
    """Rows of videos with the given logits of their clips; a video without any is unscored."""
    key = [(v, c) for v, clips in enumerate(logits) for c in range(len(clips))]
    scores = ClipScores(
        np.array(key, dtype=np.int64).reshape(-1, 2),
        np.array([records[video].label for video, _ in key], dtype=np.int64),
        np.array([x for clips in logits for x in clips], dtype=np.float64),
        np.zeros((len(key), 0)) if frames is None else np.array(frames, dtype=np.float64),
    )
    lost = [record for record, clips in zip(records, logits, strict=True) if not clips]
    return ledger_frame(scores, Names(records, (), lost), source, {**CONSTANTS, **constants})


def write_toy(
    path: Path, records: Sequence[VideoRecord], logits: Sequence[Sequence[float]], **options: Any
) -> Path:
    """Write such rows."""
    write_ledger(path, toy_frame(records, logits, **options))
    return path
