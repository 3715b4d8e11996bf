from __future__ import annotations

import math
from pathlib import Path

import pytest

from experiments.evaluation.pairs import paired_metrics
from tests.support.ledgers import toy_record, write_toy

#: Video, label, score, the real video of its footage. The lonely fake is found most easily.
VIDEOS = (
    ("real/a", 0, 0.4, None),
    ("real/b", 0, 0.6, None),
    ("fake/a", 1, 0.7, "real/a"),
    ("fake/b", 1, 0.5, "real/b"),
    ("fake/alone", 1, 0.9, None),
    ("fake/lost", 1, 0.9, "real/lost"),
)


def write(path: Path, *, has_pairs: bool) -> Path:
    records = [toy_record(v, k, paired_real=p if has_pairs else None) for v, k, _, p in VIDEOS]
    return write_toy(path, records, [[math.log(s / (1 - s))] for _, _, s, _ in VIDEOS])


def test_only_videos_with_their_counterpart_count(tmp_path: Path) -> None:
    found = paired_metrics(write(tmp_path / "test.parquet", has_pairs=True), num_resamples=100)
    assert found is not None
    assert found["num_videos"] == 4
    # Of the four comparisons only 0.5 against 0.6 is wrong.
    assert found["video_auc"] == pytest.approx(3 / 4)
    assert found["clip_auc"] == pytest.approx(3 / 4)


def test_a_manifest_without_pairs_has_no_such_figure(tmp_path: Path) -> None:
    assert paired_metrics(write(tmp_path / "test.parquet", has_pairs=False)) is None
