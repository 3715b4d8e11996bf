"""A run that is killed and resumed ends with the very weights of an uninterrupted one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from tests.support.cases import CASES
from tests.support.probes import KILL_AT
from tests.support.programs import run_here, start
from tests.support.stores import write_store

COMMON = (
    *("--gpus", "0", "--no-test", "--wandb", "off"),
    "--trainer.enable_progress_bar=false",
)
#: 8 training videos in batches of 2: 4 steps an epoch, 12 in all.
EPOCHS, STEPS = 3, 12


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("resume") / "store"
    counts = {(split, label): 4 for split in ("train",) for label in (0, 1)}
    counts |= {(split, label): 1 for split in ("val", "test") for label in (0, 1)}  # type: ignore[misc]
    write_store(root, counts)  # type: ignore[arg-type]
    return root


@pytest.fixture(
    scope="module",
    params=[
        *("ftcn_tt", "hff"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("xception", "sta_vb")),
    ],
)
def method(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def whole(store: Path, method: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("resume") / "whole"
    assert run_here(*fit(store, run, method)) == 0
    return run


def fit(store: Path, run: Path, method: str) -> list[str]:
    return [
        *("fit", "--root", str(store), "--run", str(run), *COMMON, *CASES[method].words),
        f"--trainer.max_epochs={EPOCHS}",
        "--trainer.accumulate_grad_batches=1",
        "--data.init_args.batch_size=2",
        "--data.init_args.train_clips_per_video=1",
        "--data.init_args.eval_clips_per_video=1",
        "--data.init_args.num_workers=0",
        "--trainer.callbacks+=tests.support.probes.KillAt",
        "--trainer.callbacks+=callbacks.LastCheckpoint",
        "--trainer.callbacks.init_args.every_n_steps=3",
    ]


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == STEPS
    state: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return state


def killed_and_resumed(store: Path, run: Path, method: str, steps: list[int]) -> None:
    for k, step in enumerate(steps):
        words = fit(store, run, method) if k == 0 else ["fit", "--resume", str(run), *COMMON]
        died = start("experiments.run", *words, **{KILL_AT: str(step)})
        assert died.returncode == -signal.SIGKILL, died.stderr
    assert run_here("fit", "--resume", str(run), *COMMON) == 0


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


def test_killed_in_mid_epoch(store: Path, method: str, whole: Path, tmp_path: Path) -> None:
    killed_and_resumed(store, tmp_path / "run", method, [7])
    assert same(weights(tmp_path / "run"), weights(whole))


@pytest.mark.slow
def test_killed_five_times(store: Path, method: str, whole: Path, tmp_path: Path) -> None:
    # 4 and 8 are the first steps of an epoch, the others lie within one.
    killed_and_resumed(store, tmp_path / "run", method, [3, 4, 6, 8, 11])
    assert same(weights(tmp_path / "run"), weights(whole))
