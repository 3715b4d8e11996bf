from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments import wandb_media
from experiments.wandb_media import log_checkpoints, log_media
from tests.support.run_folders import write_run


class Sent:
    """A W&B run that keeps what it is sent."""

    def __init__(self, offline: bool) -> None:
        self.offline = offline
        self.logged: dict[str, Any] = {}
        self.artifacts: list[tuple[str, list[str]]] = []

    def log(self, values: dict[str, Any]) -> None:
        self.logged |= values

    def log_artifact(self, artifact: Any, aliases: list[str]) -> None:
        assert list(artifact.manifest.entries)
        self.artifacts.append((artifact.name, aliases))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    run = Sent(offline=False)
    monkeypatch.setattr(wandb_media, "WandbLogger", SimpleNamespace)
    return run


def test_tables_are_named_as_the_figures_of_their_set(tmp_path: Path, sent: Sent) -> None:
    run = write_run(tmp_path / "r", sets={"celeb_df_v2": ("x",)})
    log_media([SimpleNamespace(experiment=sent)], run)  # type: ignore[list-item]
    assert set(sent.logged) == {f"test/celeb_df_v2/{name}" for name in ("predictions", "roc", "pr")}
    rows = sent.logged["test/celeb_df_v2/predictions"].data
    assert len(rows) == 24
    assert ["celeb_df_v2/real/11", 0, "", "celeb_df_v2", None, "no_clip", 0] in rows


def test_checkpoints_are_sent_online_only(tmp_path: Path, sent: Sent) -> None:
    (tmp_path / "r" / "checkpoints").mkdir(parents=True)
    for name in ("best", "last"):
        (tmp_path / "r" / "checkpoints" / f"{name}.ckpt").write_text(name)
    loggers: Any = [SimpleNamespace(experiment=sent)]
    log_checkpoints(loggers, tmp_path / "r")
    assert sent.artifacts == [("r-checkpoint", ["best"]), ("r-checkpoint", ["latest"])]
    sent.offline = True
    log_checkpoints(loggers, tmp_path / "r")
    assert len(sent.artifacts) == 2
