"""Fakes that are made while training, on two processes: those of one, and after a break too."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.probes import KILL_AT
from tests.support.programs import start
from tests.support.stores import write_store

if TYPE_CHECKING:
    from pathlib import Path

#: 8 training videos, two clips of each an epoch, four a batch over all processes, two batches a
#: step: 4 batches and 2 steps an epoch.
EPOCHS, BATCHES, CLIPS = 2, 4, 4
#: In mid-epoch: steps done, and batches begun.
KILLED, BEGUN = 3, 7
COMMON = ("--gpus", "0", "--no-test", "--wandb", "off", "--trainer.enable_progress_bar=false")

pytestmark = pytest.mark.slow

Line = dict[str, Any]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("forging") / "store"
    counts = {(split, label): 1 for split in ("val", "test") for label in (0, 1)}
    counts |= {("train", label): 4 for label in (0, 1)}
    write_store(root, counts, num_frames=20)  # type: ignore[arg-type]
    return root


def fit(store: Path, run: Path, processes: int) -> list[str]:
    return [
        *("fit", "--exp", "altfreezing", "--root", str(store), "--run", str(run), *COMMON),
        "--trainer.callbacks.init_args.spatial_frozen_steps=1",
        f"--trainer.max_epochs={EPOCHS}",
        "--trainer.accumulate_grad_batches=2",
        f"--trainer.devices={processes}",
        f"--data.init_args.batch_size={CLIPS // processes}",
        "--data.init_args.train_clips_per_video=2",
        "--data.init_args.num_frames=4",
        "--data.init_args.image_size=32",
        "--data.init_args.eval_clips_per_video=1",
        "--data.init_args.num_workers=1",
        "--data.init_args.fake_from_real.temporal_dropout.weight=0",
        "--trainer.callbacks+=tests.support.probes.ClipLog",
        "--trainer.callbacks+=tests.support.probes.RankChecksum",
        "--trainer.callbacks+=tests.support.probes.KillAt",
        "--trainer.callbacks+=callbacks.LastCheckpoint",
        "--trainer.callbacks.init_args.every_n_steps=1",
    ]


def clips(run: Path, rank: int) -> list[Line]:
    return [json.loads(line) for line in (run / f"clips-{rank}.jsonl").read_text().splitlines()]


def weights(run: Path) -> set[str]:
    return {(run / f"weights-{rank}.txt").read_text() for rank in (0, 1)}


@pytest.fixture(scope="module")
def two(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("two") / "run"
    done = start("experiments.run", *fit(store, run, 2))
    assert done.returncode == 0, done.stderr
    return run


def test_two_processes_share_the_clips_of_one(store: Path, two: Path, tmp_path: Path) -> None:
    done = start("experiments.run", *fit(store, tmp_path / "one", 1))
    assert done.returncode == 0, done.stderr
    whole, *halves = clips(tmp_path / "one", 0), clips(two, 0), clips(two, 1)
    assert [line["place"] for line in whole] == [
        [epoch, batch] for epoch in range(EPOCHS) for batch in range(BATCHES)
    ]
    for line, *parts in zip(whole, *halves, strict=True):
        assert all(part["place"] == line["place"] for part in parts)
        for what in ("label", "clip", "mask"):
            assert line[what] == [*parts[0][what], *parts[1][what]]
        assert sum(line["label"]) == CLIPS / 2
    masks = [mask for line in whole for mask in line["mask"] if mask]
    # A quarter of the clips is made, and about half of these are blends, of masks of their own.
    assert len(set(masks)) == len(masks) >= 2


def test_ranks_end_alike(two: Path) -> None:
    assert len(weights(two)) == 1


def test_a_run_that_was_killed_goes_on_with_the_same_clips(
    store: Path, two: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    died = start("experiments.run", *fit(store, run, 2), **{KILL_AT: str(KILLED)})
    assert died.returncode == -signal.SIGKILL, died.stderr
    done = start("experiments.run", "fit", "--resume", str(run), *COMMON, "--trainer.devices=2")
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        whole = clips(two, rank)
        # The batch that was begun and lost is there twice.
        assert clips(run, rank) == whole[:BEGUN] + whole[BEGUN - 1 :]
    assert weights(run) == weights(two)
