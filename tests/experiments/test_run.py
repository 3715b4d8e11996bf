"""A run from the command line: what it leaves, and what it says to mistakes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.cli import _available_precision
from experiments.evaluate import main as evaluate
from experiments.evaluation.ledgers import read_evaluations
from experiments.run import main
from experiments.run_folder import ENVIRONMENT, run_folder
from experiments.shorthand import parse_shorthand
from tests.support.stores import write_store

SMALL = (
    *("--gpus", "0"),
    "--data.init_args.num_frames=4",
    "--data.init_args.image_size=32",
    "--data.init_args.batch_size=4",
    "--data.init_args.num_workers=0",
    "--trainer.max_epochs=1",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run") / "store"
    counts = {(split, label): 2 for split in ("train", "val", "test") for label in (0, 1)}
    write_store(root, counts)  # type: ignore[arg-type]
    return root


@pytest.fixture(scope="module")
def run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(ENVIRONMENT, raising=False)
        patch.delenv("WANDB_API_KEY", raising=False)
        patch.chdir(folder.parent)
        assert main(["fit", "--root", str(store), "--run", str(folder), *SMALL]) == 0
        patch.delenv(ENVIRONMENT, raising=False)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_fit_leaves_everything_in_its_folder(run: Path) -> None:
    assert (run / "config.yaml").is_file()
    assert (run / "record.json").is_file()
    assert (run / "metrics" / "metrics.csv").is_file()
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list((run / "wandb").glob("offline-run-*/*.wandb"))
    tables = {
        p.name.split("_")[0] for p in run.glob("wandb/offline-run-*/files/media/table/test/*")
    }
    assert {"predictions", "roc", "pr"} <= tables
    assert len({row["video_id"] for row in rows(run / "scores" / "test.csv")}) == 4
    (scored,) = read_evaluations([run / "scores" / "test.parquet"])
    assert (scored.facts["experiment"], scored.facts["seed"]) == ("ftcn_tt", 1)
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    assert metrics["num_videos"] == 4
    assert {"clip_auc", "video_auc", "video_eer", "video_ap", "video_auc_low"} <= metrics.keys()


def test_any_method_takes_a_rule_for_videos_and_keeps_it(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    rule = "--model.init_args.video_rule=max"
    assert main(["fit", "--root", str(store), "--run", "r", *SMALL, rule]) == 0
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert main(["test", "--run", "r"]) == 0
    (again,) = read_evaluations(Path("r/test").glob("*/scores/test.parquet"))
    assert again.facts["pooling"] == "max"
    for video, score in enumerate(again.score):
        logit = again.clip_logit[again.clip_video == video].max()
        assert score == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)


def test_evaluating_again_gives_the_same_numbers(run: Path) -> None:
    before = (run / "metrics.json").read_text()
    assert evaluate(["--run", str(run), "--gpus", "0"]) == 0
    (again,) = (run / "test").iterdir()
    assert json.loads((again / "metrics.json").read_text())["test"] == json.loads(before)["test"]
    assert (run / "metrics.json").read_text() == before
    first, second = rows(run / "scores" / "test.csv"), rows(again / "scores" / "test.csv")
    assert [r["logit"] for r in first] == [r["logit"] for r in second]
    assert [r["checkpoint"] for r in first] == [r["checkpoint"] for r in second]


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run, expect a refusal, and return its one line."""
    capsys.readouterr()
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    assert code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.count("\n") == 1
    return error


def test_a_wrong_key_is_named(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = said(["fit", "--root", str(store), "--model.init_args.widht=3"], capsys)
    assert "widht" in error


def test_a_mistake_leaves_no_folder(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    said(["fit", "--root", str(store), "--model.init_args.widht=3"], capsys)
    assert (tmp_path / "runs").is_dir()
    assert list(tmp_path.glob("runs/*")) == []
    monkeypatch.delenv(ENVIRONMENT, raising=False)  # of the first, which others inherit
    (tmp_path / "own").mkdir()
    said(["fit", "--root", str(store), "--run", "own", "--model.init_args.widht=3"], capsys)
    assert (tmp_path / "own").is_dir()


def test_runs_started_in_the_same_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = set()
    for _ in range(3):
        monkeypatch.delenv(ENVIRONMENT, raising=False)
        folders.add(run_folder(parse_shorthand(["fit"])))
    assert len(folders) == 3
    assert folders == set((tmp_path / "runs").iterdir())


def test_a_wrong_key_in_a_yaml_is_named(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("data: {init_args: {batchsize: 3}}\n")
    assert "batchsize" in said(["fit", "--root", str(store), "--config", str(own)], capsys)


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("--data.init_args.num_frames=5", "5 frames"),
        ("--data.init_args.num_frames=34", "34 frames"),
        ("--data.init_args.image_size=8", "8 x 8"),
        ("--model.init_args.lr_schedule.init_args.warmup_fraction=2", "warmup_fraction"),
    ],
)
def test_a_value_the_network_cannot_take(
    setting: str, part: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = said(["fit", "--root", str(store), "--run", str(tmp_path), *SMALL, setting], capsys)
    assert part in error


TURNS = "--trainer.callbacks+=callbacks.AltFreezing"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["i3d", TURNS, "--trainer.callbacks.spatial_frozen_steps=0"], "not 0 and 1\n"),
        (["i3d", TURNS, "--trainer.callbacks.start=spatial"], "Got value: spatial;"),
        (["i3d", TURNS, "--freeze"], "I3D has no trainable spatial convolution, kernel"),
        (["ftcn_tt", TURNS], "FTCN has no spatial convolution, kernel (1, k, k) with k > 1;"),
        (["altfreezing", TURNS], "more than one stateful callback of type `AltFreezing`"),
    ],
)
def test_freezing_by_turns_that_cannot_be(
    words: list[str], reason: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["fit", "--exp", *words, "--root", str(store), "--run", str(tmp_path), *SMALL]
    error = said([*given, "--wandb", "off", "--trainer.enable_progress_bar=false"], capsys)
    assert reason in error
    assert "Union" not in error


def test_a_root_that_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = said(["fit", "--root", str(tmp_path), "--run", str(tmp_path / "r"), *SMALL], capsys)
    assert "make data" in error


def test_weights_that_are_no_weights(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"not a checkpoint")
    words = ["fit", "--root", str(store), "--run", str(tmp_path / "r"), *SMALL]
    error = said([*words, "--weights", str(weights)], capsys)
    assert str(weights) in error


def test_a_checkpoint_of_another_structure(
    run: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["test", "--root", str(store), *SMALL[:-1], "--model.init_args.structure=paper"]
    checkpoint = run / "checkpoints" / "best.ckpt"
    error = said([*words, "--checkpoint", str(checkpoint)], capsys)
    assert "does not fit" in error


@pytest.mark.parametrize(
    ("wanted", "accelerator", "gpu", "bfloat16", "expected"),
    [
        ("bf16-mixed", "auto", True, True, "bf16-mixed"),
        ("bf16-mixed", "gpu", True, False, "16-mixed"),
        ("bf16-mixed", "auto", False, False, "32-true"),
        ("16-mixed", "cpu", True, True, "32-true"),
        ("32-true", "gpu", True, True, "32-true"),
        (None, "auto", False, False, None),
    ],
)
def test_mixed_precision_of_a_recipe_is_for_devices_that_have_it(
    monkeypatch: pytest.MonkeyPatch,
    wanted: str | None,
    accelerator: str,
    gpu: bool,
    bfloat16: bool,
    expected: str | None,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bfloat16)
    assert _available_precision(wanted, accelerator) == expected
