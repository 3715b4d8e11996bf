"""Fakes that are made while training, switched on by a YAML and by the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from experiments.run import main
from experiments.run_folder import ENVIRONMENT
from tests.support.cases import METHOD_CASES
from tests.support.forging import real_store
from tests.test_configs import shrunk

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = {
    "data": {
        "init_args": {
            "fake_from_real": {
                "real_fakes": 0.25,
                "temporal_dropout": {"max_frames": 4},
                "cross_blend": {"weight": 2},
                "mask": {"feather": [0.05, 0.1]},
            }
        }
    }
}


def test_a_method_trains_on_real_videos_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = real_store(tmp_path / "store")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(BLOCK))
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.chdir(tmp_path)
    arguments = [*shrunk(METHOD_CASES[0], root), "--trainer.max_epochs=1"]
    config = ["--config", "mine.yaml", "--data.init_args.fake_from_real.self_blend.weight=0"]
    assert main([*arguments, *config, "--wandb", "off"]) == 0
    resolved = yaml.safe_load(next((tmp_path / "runs").glob("*/config.yaml")).read_text())
    found = resolved["data"]["init_args"]["fake_from_real"]
    assert found["real_fakes"] == 0.25
    assert found["temporal_dropout"]["max_frames"] == 4
    assert found["self_blend"]["weight"] == 0
    assert found["mask"]["feather"] == [0.05, 0.1]
    assert found["temporal_repeat"]["max_times"] == 3


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("real_fakes=2", "fake_from_real.real_fakes is 2"),
        ("mask.erosion=[0.5,0.1]", "fake_from_real.mask.erosion is (0.5, 0.1)"),
        ("mask.colour=1", "colour"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    argument: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = real_store(tmp_path / "store", num_real=1)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.chdir(tmp_path)
    arguments = shrunk(METHOD_CASES[0], root)
    try:
        code: object = main([*arguments, f"--data.init_args.fake_from_real.{argument}"])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert reason in capsys.readouterr().err
