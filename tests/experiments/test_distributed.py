"""Two processes and one: the same figures, the same weights on all ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_modules import FrameMethod
from tests.support.cases import CASES
from tests.support.programs import run_here, start
from tests.support.stores import write_store

TWO = ("--strategy", "ddp", "--trainer.accelerator=cpu", "--trainer.devices=2")
ONE = ("--trainer.strategy=auto", "--trainer.accelerator=cpu", "--trainer.devices=1")

#: A method that scores clips, one that scores frames; the latter with a network of timm, and with
#: one that is frozen.
METHODS = [
    *("ftcn_tt", "hff"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("xception", "clip_linear", "sta_vb")),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An odd number of test clips, so that padding happens."""
    root = tmp_path_factory.mktemp("ddp") / "store"
    counts = {(split, label): 2 for split in ("train", "val", "test") for label in (0, 1)}
    counts["test", 1] = 3
    write_store(root, counts)  # type: ignore[arg-type]
    return root


@pytest.fixture(scope="module", params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def run(method: str, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit on two processes."""
    folder = tmp_path_factory.mktemp("ddp") / method
    done = start(
        "experiments.run",
        *("fit", "--root", str(store), "--run", str(folder), *TWO, *CASES[method].words),
        "--data.init_args.batch_size=1",
        "--data.init_args.fake_from_real=null",  # pairs would need two clips a process
        "--data.init_args.train_clips_per_video=1",
        "--data.init_args.eval_clips_per_video=1",
        "--data.init_args.num_workers=0",
        "--trainer.max_epochs=2",
        "--trainer.enable_progress_bar=false",
        "--trainer.callbacks+=tests.support.probes.RankChecksum",
    )
    assert done.returncode == 0, done.stderr
    return folder


def figures(folder: Path) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((folder / "metrics.json").read_text())["test"]
    return metrics


def test_ranks_end_with_the_same_weights(run: Path) -> None:
    first, second = ((run / f"weights-{rank}.txt").read_text() for rank in (0, 1))
    assert first == second


def test_no_padded_copy_is_counted(run: Path) -> None:
    assert figures(run)["num_videos"] == 5
    assert figures(run)["num_clips"] == 5


def test_frames_have_figures_too(run: Path, method: str) -> None:
    framed = issubclass(CASES[method].method, FrameMethod)
    assert ("frame_auc" in figures(run)) == framed
    if framed:
        assert figures(run)["num_frames"] == 5 * CASES[method].num_frames


def test_one_process_gives_the_same_figures(run: Path) -> None:
    assert run_here("test", "--run", str(run), *ONE) == 0
    (folder,) = (run / "test").iterdir()
    assert figures(folder) == pytest.approx(figures(run), abs=1e-6, nan_ok=True)
