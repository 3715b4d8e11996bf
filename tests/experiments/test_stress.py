"""Sweeps of a run from the command line: ledgers, table, plot; what is there is not made again."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from callbacks.ledger import read_ledger
from datamodules.perturbations import searching, stores
from datamodules.storage.output import lock_or_refuse
from experiments.confounds import main as confounds
from experiments.robustness import main
from experiments.stress import scoring
from tests.datamodules.perturbations.test_stores import NoiseBlind
from tests.support.stress import train_small, write_raw


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    train_small(write_raw(folder / "raw"), folder)
    return folder


def sweep(base: Path, *words: str) -> int:
    where = ["--run", base / "run", "--root", base / "raw", "--out", base / "out"]
    common = ["--levels", "4", "--gpus", "0", "--workers", "1"]
    return main([*map(str, where), "--perturbations", "noise", "frame_rate", *common, *words])


def test_a_sweep_resumes_and_reports(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep(base) == 0
    said = capsys.readouterr()
    assert "| noise |" in said.out
    assert "perturbing videos: 8 of 8" in said.err
    (folder,) = (base / "out" / "scores").iterdir()
    assert folder.name.startswith("run-")
    with (folder / "robustness.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [(row["name"], row["level"]) for row in rows]
    assert keys == [("clean", "0"), ("noise", "4"), ("frame_rate", "4")]
    assert {row["videos"] for row in rows} == {"4"}
    assert {rows[0][name] for name in ("change", "change_low", "change_high")} == {"0.0"}
    told = json.loads((folder / "robustness.json").read_text())
    assert told["run"] == "run"
    assert told["parameters"]["noise-4"]["value"] == 0.01
    assert [row["name"] for row in told["rows"]] == [name for name, _ in keys]
    for kind in ("png", "svg"):
        assert (folder / f"robustness.{kind}").stat().st_size > 5000
    clean, noisy = (
        read_ledger(folder / key / "scores" / "test.parquet") for key in ("clean", "noise-4")
    )
    assert clean["video_id"].to_list() == noisy["video_id"].to_list()
    assert clean["logit"].to_list() != noisy["logit"].to_list()
    assert set(clean.select("perturbation", "level", "faces").rows()) == {("clean", 0, "own")}
    assert set(noisy.select("perturbation", "level", "faces").rows()) == {("noise", 4, "clean")}
    # The clean store was prepared as the run's own data were, of the test videos only.
    assert set(clean["split"]) == {"test"}

    # Again: nothing is perturbed and nothing is scored, whatever is left in between is made.
    tests: list[str] = []
    test = scoring._test
    monkeypatch.setattr(scoring, "_test", lambda s: (tests.append(s.folder.name), test(s))[1])
    table = (folder / "robustness.csv").read_bytes()
    assert sweep(base) == 0
    assert tests == []
    shutil.rmtree(folder / "noise-4")
    assert sweep(base) == 0
    assert tests == ["noise-4"]
    assert (folder / "robustness.csv").read_bytes() == table

    # Of two processes at one run one is told.
    capsys.readouterr()
    with lock_or_refuse(base / "out" / "locks" / folder.name, "as another process holds it"):
        assert sweep(base) == 2
    (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("error: "))
    assert "another process is writing into" in line

    # Stores may go: their ledgers count.
    assert sweep(base, "--drop-stores") == 0
    assert tests == ["noise-4"]
    assert sweep(base, "--drop-stores", "--seed", "1") == 0
    assert tests == ["noise-4", "noise-4", "frame_rate-4"]
    assert not list((base / "out" / "stores").glob("*/manifest.jsonl"))


@pytest.mark.slow
def test_a_run_is_scored_under_all_controls(base: Path) -> None:
    where = ["--run", base / "run", "--root", base / "raw", "--out", base / "controls"]
    words = [*map(str, where), "--gpus", "0", "--workers", "1"]
    assert confounds(words) == 0
    report = json.loads((base / "controls" / "confounds.json").read_text())
    rows = {row["name"]: row for row in report["rows"] if row["kind"] == "condition"}
    assert list(rows) == ["clean", "blank_face", "face_only", "reencoded", "matched"]
    assert {row["videos"] for row in rows.values()} == {4}
    (folder,) = (base / "controls" / "scores").iterdir()
    clean, blank = (
        read_ledger(folder / key / "scores" / "test.parquet") for key in ("clean", "blank_face")
    )
    assert clean["logit"].to_list() != blank["logit"].to_list()


def test_faces_are_searched_again_on_demand(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep(base, "--faces", "again") == 2
    assert "came from files" in capsys.readouterr().err
    # The faces of these videos are drawn nowhere: who finds them must be told where they are.
    shutil.copytree(base / "out" / "clean", base / "mesh")
    info = base / "mesh" / "prepared.json"
    told = json.loads(info.read_text())
    told["parameters"]["backend"] = "mesh"
    info.write_text(json.dumps(told))
    for module in (stores, searching):
        monkeypatch.setattr(module, "cached_backend", lambda *_: NoiseBlind())
    words = ("--faces", "again", "--prepared", str(base / "mesh"))
    assert sweep(base, *words) == 0
    said = capsys.readouterr().out
    assert "Videos without a score, counted in no figure: noise 4 4." in said
    assert "| noise | no score |" in said
    assert "Faces are\nthose found in the perturbed videos." in said
    (folder,) = (base / "out" / "scores").glob("run-*-again")
    noisy = read_ledger(folder / "noise-4" / "scores" / "test.parquet")
    assert set(noisy.select("perturbation", "level", "faces").rows()) == {("noise", 4, "own")}
    assert noisy["status"].to_list() == ["no_face"] * 4
    assert noisy["logit"].null_count() == 4
    slow = read_ledger(folder / "frame_rate-4" / "scores" / "test.parquet")
    assert set(slow["status"]) == {"ok"}
    assert json.loads((folder / "robustness.json").read_text())["faces"] == "again"
    # Who is not found passes for real: no fake is told, and no AUC above chance.
    assert sweep(base, *words, "--no-face", "real") == 0
    said = capsys.readouterr().out
    assert "Videos without a score, counted as real: noise 4 4." in said
    assert "| noise | 0.500" in said
    assert json.loads((folder / "robustness.json").read_text())["no_face"] == "real"
    assert sweep(base, *words, "--drop-stores") == 0


def test_mistakes_are_one_line(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--run", str(base / "run"), "--out", str(base / "other")]
    cases = [
        ([*run, "--root", str(base / "none")], "none"),
        ([*run, "--root", str(base / "raw"), "--perturbations", "fog"], "'fog'"),
        ([*run, "--root", str(base / "raw"), "--levels", "9"], "level 9"),
        (["--root", "x", "--out", "y", "--run", str(base)], "no checkpoint"),
        (["--root", "x", "--out", "y"], "--run"),
    ]
    for words, reason in cases:
        assert main(words) == 2
        said = capsys.readouterr()
        assert said.err.startswith("error: ")
        assert reason in said.err
        assert said.err.count("\n") == 1
    assert not (base / "other").exists()
