from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from callbacks.ledger import (
    ORDINARY,
    SCHEMA,
    VERSION_KEY,
    ClipScores,
    LedgerError,
    Names,
    ledger_frame,
    read_ledger,
    write_ledger,
)
from callbacks.provenance import write_whole
from tests.support.ledgers import CONSTANTS, SOURCE, toy_record, write_toy
from tests.support.trainers import TinyData

if TYPE_CHECKING:
    from pathlib import Path


def scores(key: list[tuple[int, int]], logit: list[float]) -> ClipScores:
    """Of clips whose video is real."""
    return ClipScores(
        np.array(key), np.zeros(len(key), dtype=np.int64), np.array(logit), np.zeros((len(key), 0))
    )


#: Of the first two tiny videos.
SCORES = scores([(0, 0), (0, 1), (2, 0)], [1 / 3, -800.0, 0.1 + 0.2])


@pytest.fixture
def frame() -> pl.DataFrame:
    data = TinyData()
    names = Names(data.records, data.clip_refs("test"), data.unscored("test"))
    return ledger_frame(SCORES, names, SOURCE, CONSTANTS)


def test_rows_come_back_bit_by_bit(tmp_path: Path, frame: pl.DataFrame) -> None:
    write_ledger(tmp_path / "s" / "test.parquet", frame)
    assert read_ledger(tmp_path / "s" / "test.parquet").equals(frame)
    assert frame.schema == SCHEMA
    assert frame["logit"].to_list() == [1 / 3, -800.0, 0.1 + 0.2, None]
    eyes = pl.read_csv(tmp_path / "s" / "test.csv", infer_schema_length=None)
    assert eyes["logit"].to_list() == frame["logit"].to_list()
    assert eyes.columns == [name for name in SCHEMA if name != "frame_logit"]


def test_a_clip_says_where_it_lies_and_where_it_is_from(frame: pl.DataFrame) -> None:
    row = frame.row(1, named=True)
    assert row["video_id"] == "tiny/c23/real/000"
    assert (row["clip_index"], row["track"]) == (1, 0)
    assert (row["first_frame"], row["last_frame"]) == (8, 15)
    assert (row["start_s"], row["end_s"]) == (0.8, 1.6)
    assert (row["dataset"], row["compression"], row["method"]) == ("tiny", "c23", "")
    assert (row["group"], row["split"], row["set"]) == ("person 0", "test", "toy")
    assert (row["experiment"], row["seed"], row["checkpoint"]) == ("toy", 1, "c")


def test_a_video_without_a_clip_has_a_row_and_no_score(frame: pl.DataFrame) -> None:
    row = frame.row(-1, named=True)
    assert row["video_id"] == "tiny/c23/Deepfakes/005"
    assert (row["status"], row["label"]) == ("no_face", 1)
    assert [row[name] for name in ("clip_index", "logit", "score", "start_s")] == [None] * 4


def test_a_logit_that_is_not_finite_leaves_the_score_empty() -> None:
    rows = ledger_frame(
        scores([(0, 0), (0, 1)], [1.0, float("nan")]), Names((), (), ()), SOURCE, CONSTANTS
    )
    assert rows["score"][0] == pytest.approx(1 / (1 + math.exp(-1)))
    assert math.isnan(rows["logit"][1])
    assert rows["score"][1] is None
    assert rows["status"].to_list() == ["ok", "not_finite"]


def test_frames_are_kept_where_the_method_scores_them(tmp_path: Path) -> None:
    framed = SCORES._replace(frame_logit=np.arange(6.0).reshape(3, 2))
    data = TinyData()
    rows = ledger_frame(framed, Names(data.records, (), data.unscored("test")), SOURCE, CONSTANTS)
    write_ledger(tmp_path / "f.parquet", rows)
    found = read_ledger(tmp_path / "f.parquet")["frame_logit"].to_list()
    assert found == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], None]


def test_unknown_names_leave_columns_empty() -> None:
    source = replace(SOURCE, seed=None)
    rows = ledger_frame(scores([(7, 0)], [0.0]), Names((), (), ()), source, CONSTANTS)
    row = rows.row(0, named=True)
    assert row["video_id"] == row["group"] == "#7"
    assert (row["dataset"], row["label"], row["score"]) == ("", 0, 0.5)
    assert [row[name] for name in ("first_frame", "start_s", "track", "seed")] == [None] * 4


def test_what_is_no_ledger_is_refused_in_one_line(tmp_path: Path, frame: pl.DataFrame) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(LedgerError, match="there is no such ledger"):
        read_ledger(path)
    path.write_text("video_id,label\n")
    with pytest.raises(LedgerError, match="no Parquet file, or a damaged one"):
        read_ledger(path)
    frame.write_parquet(path)
    with pytest.raises(LedgerError, match="not a ledger of this suite"):
        read_ledger(path)
    frame.write_parquet(path, metadata={"forgery_ledger": "99"})
    with pytest.raises(LedgerError, match="version 99, this code reads versions 1 to 3"):
        read_ledger(path)
    frame.drop("logit").write_parquet(path, metadata={"forgery_ledger": "1"})
    with pytest.raises(LedgerError, match="column logit is missing, not Float64"):
        read_ledger(path)


def test_a_cut_and_a_damaged_ledger_are_refused(tmp_path: Path, frame: pl.DataFrame) -> None:
    path = tmp_path / "a.parquet"
    write_ledger(path, frame)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LedgerError, match="damaged"):
        read_ledger(path)
    path.write_bytes(whole[:4] + bytes(200) + whole[204:])
    with pytest.raises(LedgerError, match="a damaged ledger"):
        read_ledger(path)


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")  # cannot be encoded, as a full disk cannot be written
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_the_version_before_conditions_is_read(
    tmp_path: Path, frame: pl.DataFrame
) -> None:
    path = tmp_path / "old.parquet"
    before = frame.drop("identities", "recipe")
    frame = frame.with_columns(recipe=pl.lit(""))
    before.drop(list(ORDINARY)).write_parquet(path, metadata={VERSION_KEY: "1"})
    assert read_ledger(path).equals(frame)
    assert read_ledger(path, ["level", "logit"]).columns == ["level", "logit"]
    before.write_parquet(path, metadata={VERSION_KEY: "2"})
    assert read_ledger(path).equals(frame)
    frame.write_parquet(path, metadata={VERSION_KEY: "4"})
    with pytest.raises(LedgerError, match="of version 4, this code reads versions 1 to 3"):
        read_ledger(path)
    before.drop("level").write_parquet(path, metadata={VERSION_KEY: "2"})
    with pytest.raises(LedgerError, match="column level is missing"):
        read_ledger(path)


def test_a_fake_names_both_of_its_people(tmp_path: Path) -> None:
    record = toy_record("a_b", 1, group_ids=("ffpp/a", "ffpp/b"))
    path = write_toy(tmp_path / "l.parquet", [record], [[1.0]])
    row = read_ledger(path).row(0, named=True)
    assert (row["group"], row["identities"]) == ("ffpp/a", ["ffpp/a", "ffpp/b"])
    assert "ffpp/a ffpp/b" in path.with_suffix(".csv").read_text()
