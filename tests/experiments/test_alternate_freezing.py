"""The experiment `altfreezing` through the command line: resumed in mid-cycle, and on two ranks."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from tests.support.probes import KILL_AT
from tests.support.programs import start
from tests.support.stores import write_store

COMMON = ("--gpus", "0", "--no-test", "--wandb", "off", "--trainer.enable_progress_bar=false")
#: 8 training videos in batches of 2: 4 steps an epoch, 8 in all; cycles of 2 + 1.
EPOCHS, STEPS = 2, 8

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("freezing") / "store"
    counts = {(split, label): 1 for split in ("val", "test") for label in (0, 1)}
    write_store(root, counts | {("train", label): 4 for label in (0, 1)})  # type: ignore[arg-type]
    return root


def fit(store: Path, run: Path, *more: str) -> list[str]:
    return [
        *("fit", "--exp", "altfreezing", "--root", str(store), "--run", str(run), *COMMON),
        "--trainer.callbacks.init_args.spatial_frozen_steps=2",
        "--trainer.callbacks.init_args.separate_momentum=true",
        f"--trainer.max_epochs={EPOCHS}",
        "--trainer.accumulate_grad_batches=1",
        "--data.init_args.num_frames=4",
        "--data.init_args.image_size=32",
        "--data.init_args.batch_size=2",
        "--data.init_args.eval_clips_per_video=1",
        "--data.init_args.num_workers=0",
        "--trainer.callbacks+=tests.support.probes.KillAt",
        "--trainer.callbacks+=callbacks.LastCheckpoint",
        "--trainer.callbacks.init_args.every_n_steps=1",
        *more,
    ]


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == STEPS
    state: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return state


def test_a_killed_run_goes_on_in_mid_cycle(store: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = start("experiments.run", *fit(store, whole))
    assert done.returncode == 0, done.stderr
    died = start("experiments.run", *fit(store, killed), **{KILL_AT: "5"})
    assert died.returncode == -signal.SIGKILL, died.stderr
    done = start("experiments.run", "fit", "--resume", str(killed), *COMMON)
    assert done.returncode == 0, done.stderr
    first, second = weights(whole), weights(killed)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_any_way_to_two_processes_works(store: Path, tmp_path: Path, strategy: str) -> None:
    run = tmp_path / "run"
    two = ("--trainer.devices=2", f"--trainer.strategy={strategy}")
    probe = "--trainer.callbacks+=tests.support.probes.RankChecksum"
    done = start("experiments.run", *fit(store, run, *two, probe))
    assert done.returncode == 0, done.stderr
    first, second = ((run / f"weights-{rank}.txt").read_text() for rank in (0, 1))
    assert first == second
