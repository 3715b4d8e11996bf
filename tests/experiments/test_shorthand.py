from __future__ import annotations

from pathlib import Path

import pytest

from experiments.errors import UsageError
from experiments.run import main
from experiments.shorthand import CONFIGS, expand, parse_shorthand


def arguments(*words: str) -> list[str]:
    return expand(parse_shorthand(list(words)))


def test_the_design_cards_command() -> None:
    typed = parse_shorthand(["--gpus", "8", "--strategy", "ddp"])
    assert expand(typed) == [
        "fit",
        *("--config", str(CONFIGS / "_base.yaml")),
        *("--config", str(CONFIGS / "ftcn_tt.yaml")),
        *("--config", str(CONFIGS / "data" / "demo.yaml")),
        *("--trainer.accelerator", "gpu", "--trainer.devices", "8"),
        *("--trainer.strategy", "ddp"),
    ]
    assert typed.notes == ["no stage given: fit", "no experiment given: ftcn_tt"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fit", "--gpus", "0"], ["--trainer.accelerator", "cpu", "--trainer.devices", "1"]),
        (["fit", "--gpus=2"], ["--trainer.accelerator", "gpu", "--trainer.devices", "2"]),
        (["fit", "--freeze"], ["--model.init_args.freeze_backbone", "true"]),
        (["fit", "--trainer.max_epochs", "3"], ["--trainer.max_epochs", "3"]),
        (["fit", "--help"], ["--help"]),
    ],
)
def test_expansions(words: list[str], expected: list[str]) -> None:
    assert arguments(*words)[7:] == expected


def test_an_experiment_may_need_data_otherwise() -> None:
    names = ("_base.yaml", "xception.yaml", "data/demo.yaml", "data/demo/xception.yaml")
    assert arguments("fit", "--exp", "xception")[2::2] == [str(CONFIGS / name) for name in names]
    own = CONFIGS / names[-1]
    assert str(own) not in arguments("fit", "--exp", "xception", "--root", "store")


def test_weights_may_be_a_name() -> None:
    for name in ("imagenet", "none", "openai"):
        args = arguments("fit", "--exp", "xception", "--weights", name)
        assert args[-2:] == ["--model.init_args.weights", name]


def test_a_root_alone_means_the_folder_data(tmp_path: Path) -> None:
    args = arguments("fit", "-d", str(tmp_path))
    assert str(CONFIGS / "data" / "folder.yaml") in args
    assert args[-2:] == ["--data.init_args.root", str(tmp_path)]


def test_the_forks_options(tmp_path: Path) -> None:
    weights, split = tmp_path / "w.pth", tmp_path / "s.csv"
    weights.touch()
    split.touch()
    args = arguments("-d", str(tmp_path), "-p", str(weights), "--split", str(split), "--freeze")
    assert args[-6:] == [
        *("--data.init_args.split_csv", str(split)),
        *("--model.init_args.weights", str(weights)),
        *("--model.init_args.freeze_backbone", "true"),
    ]


def test_a_run_is_read_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").touch()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert arguments("test", "--run", str(tmp_path)) == [
        *("test", "--config", str(tmp_path / "config.yaml")),
        *("--ckpt_path", str(tmp_path / "checkpoints" / "best.ckpt")),
    ]
    assert arguments("fit", "--resume", str(tmp_path))[-1].endswith("last.ckpt")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train"], "unknown stage 'train'; choose one of fit, validate, test, predict"),
        (["fit", "--exp", "ftcn"], "unknown experiment 'ftcn'; there are: "),
        (["fit", "--data", "nothing"], "unknown data 'nothing'; there are: demo, folder"),
        (["fit", "--gpus", "many"], "--gpus takes a whole number"),
        (["fit", "--exp"], "--exp needs a value"),
        (["fit", "--data", "folder"], "--data folder needs --root"),
        (["fit", "--weights", "absent.pth"], "there is no file absent.pth"),
        (["test", "--resume", "runs/x"], "--resume goes with fit"),
        (["test", "--run", "runs/absent"], "runs/absent is no run folder"),
        (["fit", "--wandb", "maybe"], "--wandb takes auto"),
    ],
)
def test_mistakes_are_said_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError):
        arguments(*words)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_gpus_that_are_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert main(["--gpus", "8", "--strategy", "ddp"]) == 2
    assert capsys.readouterr().err == (
        "error: --gpus 8: this machine has 1 GPU; type: python -m experiments.run --gpus 1\n"
    )


def test_help_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "--exp NAME" in capsys.readouterr().out
