from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from callbacks.ledger import LedgerError, write_ledger
from experiments.evaluation.ledgers import read_evaluations
from lightning_modules.pooling import Pooling
from tests.support.ledgers import SOURCE, toy_frame, toy_record, write_toy

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = [toy_record(f"v/{x}", k) for x, k in (("a", 0), ("b", 1), ("c", 1), ("d", 0))]
LOGITS: list[list[float]] = [[0.0, 1.0], [2.0], [math.nan, 3.0], []]


def test_videos_are_pooled_and_the_unscored_stay_unscored(tmp_path: Path) -> None:
    (found,) = read_evaluations([write_toy(tmp_path / "a.parquet", RECORDS, LOGITS)])
    assert found.videos["video_id"].to_list() == ["v/a", "v/b", "v/c", "v/d"]
    assert found.videos["status"].to_list() == ["ok", "ok", "not_finite", "no_clip"]
    assert found.videos["num_clips"].to_list() == [2, 1, 2, 0]
    wanted = [(0.5 + 1 / (1 + math.exp(-1))) / 2, 1 / (1 + math.exp(-2)), math.nan, math.nan]
    assert found.score.tolist() == pytest.approx(wanted, nan_ok=True, abs=1e-15)
    assert found.clip_video.tolist() == [0, 0, 1]
    assert found.pooled(Pooling("max")).score[0] == 1 / (1 + math.exp(-1))
    assert found.facts["set"] == "toy"
    part = found.select(np.array([False, True, False, True]))
    assert part.videos["video_id"].to_list() == ["v/b", "v/d"]
    assert (part.clip_video.tolist(), part.clip_logit.tolist()) == ([0], [2.0])


def test_copies_and_parts_count_once(tmp_path: Path) -> None:
    whole = write_toy(tmp_path / "whole.parquet", RECORDS, LOGITS)
    frame = toy_frame(RECORDS, LOGITS)
    copy, first, second = (tmp_path / f"{name}.parquet" for name in ("copy", "first", "second"))
    write_ledger(copy, frame.sample(fraction=1, shuffle=True, seed=1))
    write_ledger(first, frame[:2])
    write_ledger(second, frame[1:])
    (alone,) = read_evaluations([whole])
    for paths in ([whole, whole], [whole, copy], [first, second], [second, copy, first]):
        (found,) = read_evaluations(paths)
        order = found.videos["video_id"].arg_sort()
        assert found.videos[order].equals(alone.videos)
        assert sorted(found.clip_logit) == sorted(alone.clip_logit)
        assert found.score[found.clip_video].tolist() is not None


def test_a_scored_copy_wins_over_one_without_a_clip(tmp_path: Path) -> None:
    paths = [
        write_toy(tmp_path / f"{i}.parquet", RECORDS[:1], logits)
        for i, logits in enumerate(([[]], [[1.0]]))
    ]
    (found,) = read_evaluations(paths)
    assert found.videos.select("status", "num_clips").rows() == [("ok", 1)]


def test_runs_and_sets_stay_apart_in_one_file(tmp_path: Path) -> None:
    other = replace(SOURCE, run="other", checkpoint="d")
    frames = [toy_frame(RECORDS, LOGITS), toy_frame(RECORDS, LOGITS, other)]
    write_ledger(tmp_path / "a.parquet", pl.concat(frames))
    one, two = read_evaluations([tmp_path / "a.parquet"])
    assert (one.facts["run"], two.facts["run"]) == ("r", "other")
    assert one.videos.equals(two.videos)
    write_toy(tmp_path / "b.parquet", RECORDS, LOGITS, set="elsewhere")
    assert len(read_evaluations([tmp_path / "a.parquet", tmp_path / "b.parquet"])) == 3


@pytest.mark.parametrize("shared", [True, False])
def test_sets_of_one_name_and_other_videos_stay_apart(tmp_path: Path, shared: bool) -> None:
    others = [replace(record, video_id=f"x{record.video_id}") for record in RECORDS]
    frames = [toy_frame(RECORDS, LOGITS), toy_frame(others, LOGITS, manifest="another")]
    paths = [tmp_path / f"{place}.parquet" for place in range(2)]
    if shared:
        write_ledger(paths[0], pl.concat(frames))
    else:
        for path, frame in zip(paths, frames, strict=True):
            write_ledger(path, frame)
    one, two = read_evaluations(paths[: 2 - shared])
    assert one.videos.height == two.videos.height == len(RECORDS)
    assert set(one.videos["video_id"]).isdisjoint(two.videos["video_id"])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("label", 2, "neither 0 nor 1"), ("label", None, "neither 0 nor 1"),
     ("group", None, "no name or group"), ("video_id", None, "no name or group")],
)  # fmt: skip
def test_a_video_without_name_label_or_group_is_refused(
    tmp_path: Path, column: str, value: int | None, message: str
) -> None:
    frame = toy_frame(RECORDS[:1], LOGITS[:1])
    dtype = frame.schema[column]
    write_ledger(tmp_path / "a.parquet", frame.with_columns(pl.lit(value, dtype).alias(column)))
    with pytest.raises(LedgerError, match=message):
        read_evaluations([tmp_path / "a.parquet"])


def test_an_empty_file_among_others_is_refused(tmp_path: Path) -> None:
    one = write_toy(tmp_path / "a.parquet", RECORDS, LOGITS)
    empty = write_toy(tmp_path / "[b]*.parquet", [], [])
    with pytest.raises(LedgerError, match="without a row"):
        read_evaluations([one, empty])


def test_contradictions_are_refused(tmp_path: Path) -> None:
    one = write_toy(tmp_path / "a.parquet", RECORDS[:2], [[0.0], [1.0]])
    two = write_toy(tmp_path / "b.parquet", RECORDS[:2], [[0.0], [1.5]])
    with pytest.raises(LedgerError, match=r"two scores of clip 0 of v/b by one checkpoint"):
        read_evaluations([one, two])
    frame = toy_frame(RECORDS[:1], [[0.0, 1.0]])
    write_ledger(one, frame.with_columns(label=pl.col("clip_index").cast(pl.Int8)))
    with pytest.raises(LedgerError, match="clips of v/a carry both labels"):
        read_evaluations([one])
    write_ledger(one, frame.clear())
    with pytest.raises(LedgerError, match="without a row"):
        read_evaluations([one])


def test_frames_belong_to_their_video(tmp_path: Path) -> None:
    frames = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 10.0]]
    (found,) = read_evaluations([write_toy(tmp_path / "a.parquet", RECORDS, LOGITS, frames=frames)])
    assert found.frame_logit.tolist() == [1, 2, 3, 4, 5, 6]  # none of the video without a score
    assert found.frame_video.tolist() == [0, 0, 0, 0, 1, 1]


def test_four_fakes_with_one_folder_name_stay_four_videos(tmp_path: Path) -> None:
    methods = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
    records = [
        toy_record(f"ffpp/c23/{m}/000_003", 1, method=m, path=f"{m}/frames/000_003")
        for m in methods
    ]
    (found,) = read_evaluations(
        [write_toy(tmp_path / "a.parquet", records, [[1.0], [2.0], [3.0], [4.0]])]
    )
    assert found.videos.height == 4
    assert len(set(found.score)) == 4


def test_conditions_of_one_checkpoint_are_never_mixed(tmp_path: Path) -> None:
    conditions: list[dict[str, str | int]] = [
        {},
        {"perturbation": "noise", "level": 3, "faces": "clean"},
        {"perturbation": "noise", "level": 4, "faces": "clean"},
        {"perturbation": "noise", "level": 4, "faces": "own"},
        {"perturbation": "blank_face", "level": 0, "faces": "clean"},
    ]
    paths = [
        write_toy(tmp_path / f"{n}.parquet", RECORDS, [[float(n)]] * 4, **condition)
        for n, condition in enumerate(conditions)
    ]
    found = read_evaluations(paths)
    assert [one.clip_logit.tolist() for one in found] == [[float(n)] * 4 for n in range(5)]
    assert [one.condition for one in found] == [
        "", "noise 3", "noise 4", "noise 4, faces found again", "blank_face",
    ]  # fmt: skip
    assert [one.is_ordinary for one in found] == [True, False, False, False, False]
    assert [one.set_name for one in found[:2]] == ["toy", "toy (noise 3)"]
