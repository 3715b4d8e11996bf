"""Two processes and one: the same figures, the same weights on all ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.programs import start
from tests.support.stores import write_store

TWO = ("--strategy", "ddp", "--trainer.accelerator=cpu", "--trainer.devices=2")
ONE = ("--trainer.accelerator=cpu", "--trainer.devices=1")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit on two processes, with an odd number of test clips, so that padding happens."""
    folder = tmp_path_factory.mktemp("ddp")
    counts = {(split, label): 2 for split in ("train", "val", "test") for label in (0, 1)}
    counts["test", 1] = 3
    write_store(folder / "store", counts)  # type: ignore[arg-type]
    done = start(
        "experiments.run",
        *("fit", "--root", str(folder / "store"), "--run", str(folder / "run"), *TWO),
        "--data.init_args.num_frames=4",
        "--data.init_args.image_size=32",
        "--data.init_args.batch_size=1",
        "--data.init_args.eval_clips_per_video=1",
        "--data.init_args.num_workers=0",
        "--trainer.max_epochs=2",
        "--trainer.enable_progress_bar=false",
        "--trainer.callbacks+=tests.support.probes.RankChecksum",
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


def figures(folder: Path) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((folder / "metrics.json").read_text())["test"]
    return metrics


def test_ranks_end_with_the_same_weights(run: Path) -> None:
    first, second = ((run / f"weights-{rank}.txt").read_text() for rank in (0, 1))
    assert first == second


def test_no_padded_copy_is_counted(run: Path) -> None:
    assert figures(run)["num_videos"] == 5
    assert figures(run)["num_clips"] == 5


def test_one_process_gives_the_same_figures(run: Path) -> None:
    done = start("experiments.run", "test", "--run", str(run), *ONE)
    assert done.returncode == 0, done.stderr
    (folder,) = (run / "test").iterdir()
    assert figures(folder) == pytest.approx(figures(run), abs=1e-6, nan_ok=True)
