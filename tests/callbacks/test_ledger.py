from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from callbacks.ledger import (
    ClipRow,
    LedgerError,
    Names,
    VideoRow,
    clip_rows,
    read_clip_scores,
    read_video_scores,
    video_rows,
    write_rows,
)
from callbacks.provenance import Provenance, write_whole
from lightning_modules.metrics import merge_clips, video_table
from tests.support.trainers import TinyData

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = Provenance(run="a,run", checkpoint="c0", config="f0", code="e0")
#: Logit and label of clips of the first two tiny videos.
SCORES = {(1, 0): (0.1 + 0.2, 1), (0, 1): (-800.0, 0), (0, 0): (1 / 3, 0)}


@pytest.fixture
def names() -> Names:
    data = TinyData()
    refs = {(ref.video_index, ref.clip_index): ref for ref in data.clip_refs("test")}
    return Names(data.records, refs, data.unscored("test"))


def test_rows_come_back_bit_by_bit(tmp_path: Path, names: Names) -> None:
    clips, videos = clip_rows(SCORES, names, SOURCE), video_rows(SCORES, names, SOURCE)
    write_rows(tmp_path / "s" / "test.csv", ClipRow, clips)
    write_rows(tmp_path / "s" / "test-videos.csv", VideoRow, videos)
    assert read_clip_scores(tmp_path / "s" / "test.csv") == clips
    assert read_video_scores(tmp_path / "s" / "test-videos.csv") == videos
    assert [row.logit for row in clips] == [1 / 3, -800.0, 0.1 + 0.2]  # ascending by key


def test_a_clip_says_where_it_lies(names: Names) -> None:
    row = clip_rows(SCORES, names, SOURCE)[1]
    assert row.video_id == "tiny/c23/real/000"
    assert (row.clip_index, row.track) == (1, 0)
    assert (row.first_frame, row.last_frame) == (8, 15)
    assert (row.start_s, row.end_s) == (0.8, 1.6)
    assert (row.dataset, row.compression, row.method, row.split) == ("tiny", "c23", "", "test")


def test_a_video_without_a_clip_has_a_row_and_no_score(tmp_path: Path, names: Names) -> None:
    rows = video_rows(SCORES, names, SOURCE)
    assert [row.video_id[-3:] for row in rows] == ["000", "001", "005"]
    assert (rows[-1].status, rows[-1].num_clips, rows[-1].score) == ("no_face", 0, None)
    write_rows(tmp_path / "v.csv", VideoRow, rows)
    assert ",no_face,0,," in (tmp_path / "v.csv").read_text()


def test_a_logit_that_is_not_finite_leaves_the_score_empty(tmp_path: Path, names: Names) -> None:
    scores = {(0, 0): (1.0, 0), (0, 1): (float("nan"), 0)}
    write_rows(tmp_path / "c.csv", ClipRow, clip_rows(scores, names, SOURCE))
    good, bad = read_clip_scores(tmp_path / "c.csv")
    assert good.score == pytest.approx(1 / (1 + math.exp(-1)))
    assert math.isnan(bad.logit)
    assert bad.score is None
    video = video_rows(scores, names, SOURCE)[0]
    assert (video.status, video.num_clips, video.score) == ("not_finite", 2, None)


def test_video_scores_equal_those_of_the_metric(names: Names) -> None:
    generator = np.random.default_rng(0)
    keys = [(video, clip) for video in range(5) for clip in range(3)]
    logit = generator.normal(size=15) * 20
    scores = {key: (float(x), key[0] % 2) for key, x in zip(keys, logit, strict=True)}
    label = np.array([video % 2 for video, _ in keys])
    table = video_table(merge_clips(logit, label, np.array(keys)))
    rows = video_rows(scores, names, SOURCE)[:5]
    assert [row.score for row in rows] == pytest.approx(table.score.tolist(), abs=1e-15)


def test_unknown_names_leave_columns_empty() -> None:
    nameless = Names((), {}, ())
    row = clip_rows({(7, 0): (0.0, 1)}, nameless, SOURCE)[0]
    assert row.video_id == "#7"
    assert row.first_frame is None
    assert row.start_s is None
    assert video_rows({(7, 0): (0.0, 1)}, nameless, SOURCE)[0].score == 0.5


def test_a_foreign_file_is_refused_in_one_line(tmp_path: Path, names: Names) -> None:
    with pytest.raises(LedgerError, match="no score file can be read"):
        read_clip_scores(tmp_path / "absent.csv")
    write_rows(tmp_path / "v.csv", VideoRow, video_rows(SCORES, names, SOURCE))
    with pytest.raises(LedgerError, match="not a score file of clips: no column track"):
        read_clip_scores(tmp_path / "v.csv")
    text = (tmp_path / "v.csv").read_text().replace(",ok,2,", ",ok,two,")
    (tmp_path / "v.csv").write_text(text)
    with pytest.raises(LedgerError, match=r"v\.csv, line 2: .*two"):
        read_video_scores(tmp_path / "v.csv")


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")  # cannot be encoded, as a full disk cannot be written
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
