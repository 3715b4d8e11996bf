"""Workspace and report, made and checked without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.compare import main
from experiments.comparing.runs import Run, read_runs
from experiments.comparing.workspace import make_report, make_workspace, panel_keys
from lightning_modules.video_scores import VideoScores
from tests.support.run_folders import write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    root = tmp_path_factory.mktemp("runs")
    return read_runs([write_run(root / name, seed=n) for n, name in enumerate(("a", "b"))])


def test_panels_show_what_runs_log(runs: list[Run]) -> None:
    keys = panel_keys(runs)
    assert keys["Validation"] == ["val/video_auc"]
    assert keys["Training"] == ["train/loss", "train/clips_per_s"]
    metric = VideoScores()
    metric.update(
        logit=torch.tensor([0.0, 1.0]), label=torch.tensor([0.0, 1.0]),
        video_index=torch.tensor([0, 1]), clip_index=torch.tensor([0, 0]),
    )  # fmt: skip
    logged = {f"test/celeb_df_v2/{name}" for name in metric.compute()}
    assert set(keys["Test: celeb_df_v2"]) <= logged


def test_the_workspace_groups_runs_by_experiment(runs: list[Run]) -> None:
    model = make_workspace(runs, "mine", "me")._to_model().model_dump(by_alias=True)
    text = json.dumps(model, default=str)
    for name in ("val/video_auc", "test/ffpp/video_auc", "train/loss"):
        assert name in text
    assert "group" in json.dumps(model["spec"]["section"]["runSets"][0]["grouping"], default=str)


def test_the_report_has_the_same_panels(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb_workspaces.reports.v2.interface as interface

    monkeypatch.setattr(interface, "_get_api", lambda: None)
    monkeypatch.setattr(
        interface, "execute_graphql", lambda *_, **__: {"project": {"internalId": "1"}}
    )
    report: Any = make_report(runs, "mine", "me")
    text = report._to_model().model_dump_json(by_alias=True)
    for section, names in panel_keys(runs).items():
        assert section in text
        for name in names:
            assert name in text or name.replace("/", "\\/") in text
    assert "test/ffpp/predictions" in text


def test_without_a_key_it_is_one_line_and_the_page_is_there(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main([str(runs[0].folder), "--out", str(tmp_path / "out"), "--wandb"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "set WANDB_API_KEY" in error
    assert (tmp_path / "out" / "index.html").is_file()
