"""Every YAML is some method's, names its class, and parses through the real command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from experiments.run import main
from experiments.shorthand import CONFIGS, data_names, experiment_names
from tests.support.cases import METHOD_CASES, MethodCase
from tests.support.stores import write_store


def test_every_experiment_has_a_case_and_every_case_an_experiment() -> None:
    assert experiment_names() == sorted(case.name for case in METHOD_CASES)


@pytest.mark.parametrize("case", METHOD_CASES, ids=lambda c: c.name)
def test_an_experiment_names_the_class_of_its_case(case: MethodCase) -> None:
    config = yaml.safe_load((CONFIGS / f"{case.name}.yaml").read_text())
    assert config["model"]["class_path"] == f"lightning_modules.{case.method.__name__}"
    assert "weight_decay" in config["model"]["init_args"]["optimizer"]["init_args"]


@pytest.mark.parametrize("data", data_names())
@pytest.mark.parametrize("case", METHOD_CASES, ids=lambda c: c.name)
def test_every_pair_of_yaml_files_parses(
    case: MethodCase, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = [] if data == "demo" else ["--root", str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--exp", case.name, "--data", data, *root, "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["class_path"] == f"lightning_modules.{case.method.__name__}"
    assert printed["trainer"]["max_epochs"] >= 1


def shrunk(case: MethodCase, root: Path) -> list[str]:
    """Return the arguments that make an experiment tiny."""
    return [
        *("fit", *case.words, "--data", "folder", "--root", str(root), "--gpus", "0"),
        "--data.init_args.batch_size=4",
        "--data.init_args.num_workers=0",
    ]


@pytest.mark.parametrize("case", METHOD_CASES, ids=lambda c: c.name)
def test_every_experiment_fits_and_tests(
    case: MethodCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {(split, label): 2 for split in ("train", "val", "test") for label in (0, 1)}
    write_store(tmp_path / "store", counts)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    assert main([*shrunk(case, tmp_path / "store"), "--trainer.fast_dev_run=true"]) == 0
