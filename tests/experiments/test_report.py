"""A report from ledgers alone."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.benchmarks.reporting import write_generated
from experiments.evaluation.cautions import cautions
from experiments.evaluation.deepfakebench import deepfakebench_video_auc
from experiments.evaluation.ledgers import Evaluation, read_evaluations
from experiments.evaluation.results import (
    MAX_PARTS,
    WHOLE,
    ReportOptions,
    result_rows,
    seed_rows,
)
from experiments.report import main
from lightning_modules.bootstrap import bootstrap_interval
from lightning_modules.metrics import roc_auc
from tests.support.ledgers import SOURCE, toy_record, write_toy

METHODS = ("Deepfakes", "Face2Face")
PEOPLE = 24


def write_run(path: Path, run: str, seed: int, gain: float = 1.0, **condition: str | int) -> Path:
    """A real video of each person and a fake by each method; the last person has no face."""
    generator = np.random.default_rng(seed)
    records, logits = [], []
    for person in range(PEOPLE):
        real = f"toy/c23/real/{person:03d}"
        for method in ("", *METHODS):
            name = f"toy/c23/{method}/{person:03d}" if method else real
            pair = real if method == "Deepfakes" else None
            options = {"method": method or None, "paired_real": pair, "group_ids": (str(person),)}
            lost = person == PEOPLE - 1 and method == "Face2Face"
            records.append(
                toy_record(name, int(bool(method)), status="no_face" if lost else "ok", **options)
            )
            own = generator.normal(size=2) + gain * bool(method)
            logits.append([] if lost else own.tolist())
    source = replace(SOURCE, run=run, seed=seed, checkpoint=f"c{seed}")
    return write_toy(path, records, logits, source=source, **condition)


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    return read_evaluations([write_run(tmp_path / "a.parquet", "a", 1)])[0]


def test_each_part_is_measured_on_its_own_videos(evaluation: Evaluation) -> None:
    rows = {row["part"]: row for row in result_rows(evaluation, ReportOptions(num_resamples=200))}
    assert list(rows) == [WHOLE, "method Deepfakes", "method Face2Face", "same-footage pairs"]
    whole = rows[WHOLE]
    assert (whole["num_real"], whole["num_fake"], whole["num_unscored"]) == (24, 47, 1)
    assert whole["unscored"] == "1 no_face"
    scored = ~np.isnan(evaluation.score)
    label, score = evaluation.label[scored], evaluation.score[scored]
    assert whole["video_auc"] == pytest.approx(roc_auc(label, score), abs=1e-12)
    wanted = bootstrap_interval(label, score, evaluation.group[scored], num_resamples=200)
    assert (whole["video_auc_low"], whole["video_auc_high"]) == wanted
    for name in ("ap", "eer", "balanced_accuracy"):
        assert 0 < whole[f"video_{name}_high"] - whole[f"video_{name}_low"] < 0.6
        assert whole[f"video_{name}_low"] < whole[f"video_{name}"] < whole[f"video_{name}_high"]
    for method in METHODS:
        kept = scored & (
            (evaluation.label == 0) | (evaluation.videos["method"] == method).to_numpy()
        )
        found = rows[f"method {method}"]
        wanted_auc = roc_auc(evaluation.label[kept], evaluation.score[kept])
        assert found["video_auc"] == pytest.approx(wanted_auc, abs=1e-12)
        assert found["num_videos"] == kept.sum()
    assert rows["same-footage pairs"]["num_fake"] == 24
    assert rows["same-footage pairs"]["video_auc"] == rows["method Deepfakes"]["video_auc"]


def test_a_set_of_one_class_says_why_it_has_no_figure(evaluation: Evaluation) -> None:
    (row,) = (r for r in result_rows(evaluation.select(evaluation.label == 1), ReportOptions())
              if r["part"] == WHOLE)  # fmt: skip
    assert math.isnan(row["video_auc"])
    assert math.isnan(row["video_auc_low"])
    assert row["reason"] == "no real one has a score"


def test_runs_of_one_experiment_are_averaged(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / f"{seed}.parquet", f"run {seed}", seed) for seed in (1, 2, 3)]
    rows = [
        r for e in read_evaluations(paths) for r in result_rows(e, ReportOptions(num_resamples=10))
    ]
    whole = seed_rows(rows)[0]
    areas = [row["video_auc"] for row in rows if row["part"] == WHOLE]
    assert (whole["experiment"], whole["part"], whole["num_runs"]) == ("toy", WHOLE, 3)
    assert whole["video_auc_mean"] == pytest.approx(np.mean(areas))
    assert whole["video_auc_sd"] == pytest.approx(np.std(areas, ddof=1))
    assert math.isnan(seed_rows(rows[:4])[0]["video_auc_sd"])
    # Another checkpoint of a run is no seed, and other videos are not averaged with these.
    again = [{**row, "checkpoint": "last", "video_auc": 0.0} for row in rows if row["seed"] == 1]
    assert seed_rows([*rows, *again])[0] == whole
    # Nor is a run with other settings.
    tuned = [{**row, "recipe": "q", "run": "tuned", "video_auc": 0.0} for row in rows[:4]]
    apart = [r for r in seed_rows([*rows, *tuned]) if r["part"] == WHOLE]
    assert [(r["recipe"], r["num_runs"]) for r in apart] == [("p", 3), ("q", 1)]
    assert apart[0]["video_auc_mean"] == whole["video_auc_mean"]
    elsewhere = [{**row, "manifest": "another"} for row in rows]
    assert [r for r in seed_rows([*rows, *elsewhere]) if r["part"] == WHOLE] == [whole, whole]


def test_what_names_hold_is_shown_and_not_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "1.parquet", "a|b\n<script>[/red]", 1)
    assert main([str(tmp_path / "1.parquet"), "--out", str(tmp_path), "--resamples", "40"]) == 0
    assert "a|b <script>[/red]" in capsys.readouterr().out
    text = (tmp_path / "report.md").read_text()
    assert "| a\\|b &lt;script&gt;[/red] | " in text
    assert "<script>" not in text


def test_only_the_largest_of_many_methods_have_rows(tmp_path: Path) -> None:
    records = [toy_record(f"v/{k}", 0) for k in range(5)]
    records += [toy_record(f"w/{k}", 1, method=f"m{min(k, 200)}") for k in range(205)]
    path = write_toy(tmp_path / "1.parquet", records, [[0.5]] * len(records))
    (found,) = read_evaluations([path])
    rows = result_rows(found, ReportOptions(num_resamples=1))
    parts = [row["part"] for row in rows if row["part"].startswith("method ")]
    assert len(parts) == MAX_PARTS
    assert "method m200" in parts
    assert any("201 methods; the 100 of most videos" in line for line in cautions([found]))


def test_fakes_of_one_person_have_figures_and_a_reason_for_no_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [toy_record(f"v/{k}", 0, group_ids=(f"p{k}",)) for k in range(30)]
    records += [toy_record(f"w/{k}", 1, method=f"m{k % 2}", group_ids=("p0",)) for k in range(8)]
    path = write_toy(tmp_path / "1.parquet", records, [[float(k % 7)] for k in range(38)])
    (found,) = read_evaluations([path])
    row = result_rows(found, ReportOptions(num_resamples=40))[0]
    assert 0 < row["video_auc"] < 1
    assert math.isnan(row["video_auc_low"])
    assert "identity groups: 1 of fake videos only" in " ".join(cautions([found]))
    assert main([str(path), "--out", str(tmp_path), "--resamples", "40"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "no interval" in line]
    assert len(said) == 1
    assert "all, method m0, method m1: fake videos of one identity group only" in said[0]


def test_one_face_in_all_fakes_is_told(tmp_path: Path) -> None:
    records = [toy_record(f"v/{k}", 0, group_ids=(f"p{k}",)) for k in range(9)]
    records += [toy_record(f"w/{k}", 1, group_ids=(f"p{k}", "star")) for k in range(9)]
    (found,) = read_evaluations([write_toy(tmp_path / "1.parquet", records, [[0.5]] * 18)])
    assert any("star is in 100% of the fakes" in line for line in cautions([found]))


def test_more_runs_than_are_compared_are_said(tmp_path: Path) -> None:
    paths = [str(write_run(tmp_path / f"{k}.parquet", f"r{k}", k)) for k in range(7)]
    assert main([*paths, "--out", str(tmp_path), "--resamples", "40"]) == 0
    assert "the first 6 are compared" in (tmp_path / "report.md").read_text()


def test_the_program_writes_tables_and_warns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write_run(tmp_path / "1.parquet", "weak", 1, gain=0.2)
    two = write_run(tmp_path / "2.parquet", "strong", 2, gain=4.0)
    words = [str(one), str(two), str(one), "--out", str(tmp_path / "out"), "--resamples", "200"]
    assert main([*words, "--no-face", "real", "--rule", "max"]) == 0
    said = capsys.readouterr().out
    text = (tmp_path / "out" / "report.md").read_text()
    for wanted in ("weak", "strong", "same-footage pairs", "Differences on the same videos"):
        assert wanted in said
        assert wanted in text
    assert "pooled from clips to videos by max" in text
    assert "counted as real (score 0)" in text
    assert "videos without a score: 1 no_face" in text
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows if row["part"] == WHOLE] == ["weak", "strong"]
    assert rows[0]["pooling"] == "max"
    assert rows[0]["num_videos"] == "72.0"
    line = next(line for line in text.splitlines() if "weak - strong" in line)
    assert float(line.split("|")[3]) < -0.2


def test_conditions_are_rows_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = write_run(tmp_path / "clean.parquet", "a", 1, gain=4.0)
    noise = {"perturbation": "noise", "level": 5, "faces": "clean"}
    noisy = write_run(tmp_path / "noisy.parquet", "a", 1, gain=0.2, **noise)
    other = write_run(tmp_path / "other.parquet", "b", 2, gain=0.2, **noise)
    words = [str(path) for path in (clean, noisy, other)]
    assert main([*words, "--out", str(tmp_path / "out"), "--resamples", "50"]) == 0
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == WHOLE]
    told = [(row["run"], row["perturbation"], row["level"], row["condition"]) for row in rows]
    assert told == [
        ("a", "clean", "0", ""), ("a", "noise", "5", "noise 5"), ("b", "noise", "5", "noise 5"),
    ]  # fmt: skip
    assert float(rows[0]["video_auc"]) > 0.9 > float(rows[1]["video_auc"])
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| a | toy | noise 5 | all |" in text
    # Only the two on the same perturbed videos are compared, and averaged as seeds.
    gaps = text.partition("## Differences")[2]
    assert "| a - b | toy (noise 5) |" in gaps
    assert "| a - a |" not in gaps
    assert "a: toy, noise 5, all: videos without a score: 1 no_face" in text
    assert "| toy | toy | noise 5 | all | 2 |" in text


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["absent.parquet"], "there is no such ledger"),
        ([], "the following arguments are required"),
        (["a.parquet", "--rule", "median"], "no rule of pooling"),
        (["a.parquet", "--no-face", "half"], "invalid choice"),
        (["a.parquet", "--threshold", "nan"], "scores are from 0 to 1"),
        (["a.parquet", "--threshold", "half"], "scores are from 0 to 1"),
        (["a.parquet", "--resamples", "0"], "at least 40 make an interval"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1


def test_deepfakebench_merges_what_shares_a_folder_name(tmp_path: Path) -> None:
    records = [
        toy_record(f"ffpp/c23/{name}", k)
        for name, k in (("youtube/000", 0), ("A/000_003", 1), ("B/000_003", 1), ("C/001_004", 1))
    ]
    logits, frames = [[0.5], [2.0], [-2.0], [1.0]], [[0.5, 0.5], [2, 2], [-2, -2], [1, 1]]
    (found,) = read_evaluations([write_toy(tmp_path / "f.parquet", records, logits, frames=frames)])
    # Their fakes A and B make one of 0.5, below the real one of 0.62; ours stay two.
    assert deepfakebench_video_auc(found) == 1 / 2
    assert roc_auc(found.label, found.score) == 2 / 3
    (clips,) = read_evaluations(
        [write_toy(tmp_path / "c.parquet", records[:3], [[0, 3], [1], [2, 4]])]
    )
    assert deepfakebench_video_auc(clips) == roc_auc(
        clips.label[clips.clip_video], clips.clip_logit
    )


def test_a_generated_ledger_is_reported_without_torch_or_network(tmp_path: Path) -> None:
    write_generated(tmp_path / "g.parquet", 2000, 10)
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "from experiments.report import main\n"
        "code = main(sys.argv[1:])\n"
        "sys.exit('torch' if 'torch' in sys.modules else code)"
    )
    words = [str(tmp_path / "g.parquet"), "--out", str(tmp_path), "--resamples", "50"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "generated" in (tmp_path / "report.md").read_text()
