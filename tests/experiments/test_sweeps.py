"""Sweeps call the command line that a user would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.run import main
from experiments.shorthand import expand, parse_shorthand
from tests.support.stores import write_store

SWEEPS = sorted((Path(__file__).parents[2] / "experiments" / "sweeps").glob("*.yaml"))
SMALL = (
    *("--gpus", "0", "--wandb", "off"),
    "--data.init_args.num_frames=4",
    "--data.init_args.image_size=32",
    "--data.init_args.batch_size=4",
    "--data.init_args.num_workers=0",
    "--trainer.max_epochs=1",
)


def first_value(parameter: dict[str, Any]) -> Any:
    return parameter["values"][0] if "values" in parameter else parameter["min"]


def words_of(path: Path) -> list[str]:
    """The words that an agent starts, behind the program."""
    sweep = yaml.safe_load(path.read_text())
    values = [f"--{name}={first_value(p)}" for name, p in sweep["parameters"].items()]
    command = sweep["command"]
    assert command[:3] == ["python", "-m", "experiments.run"]
    assert command[-1] == "${args}"
    return [*command[3:-1], *values]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_is_one_of_our_commands(path: Path) -> None:
    sweep = yaml.safe_load(path.read_text())
    assert sweep["metric"] == {"name": "val/video_auc", "goal": "maximize"}
    assert sweep["method"] in ("grid", "random", "bayes")
    assert expand(parse_shorthand(words_of(path)))[0] == "fit"


def test_a_trial_of_a_sweep_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {(split, label): 2 for split in ("train", "val", "test") for label in (0, 1)}
    write_store(tmp_path / "store", counts)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    words = words_of(next(path for path in SWEEPS if path.stem == "optimizer"))
    place = words.index("--data")
    words[place : place + 2] = ["--data", "folder", "--root", "store"]
    assert main([*words, "--run", "r", *SMALL]) == 0
    config = yaml.safe_load(Path("r/config.yaml").read_text())
    optimizer = config["model"]["init_args"]["optimizer"]["init_args"]
    assert (optimizer["lr"], optimizer["weight_decay"]) == (0.01, 0.0)
    assert not Path("r/scores").exists()
