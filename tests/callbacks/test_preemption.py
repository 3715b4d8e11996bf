from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from callbacks import SaveOnSignal, StepSeed
from tests.support.distributed import run_job
from tests.support.trainers import Kick, TinyData, TinyModule, tiny_trainer

if TYPE_CHECKING:
    from pathlib import Path

#: What a validation found: epoch, step, figure.
Seen = tuple[int, int, float]


class Diary(Callback):
    """Remember what each validation found."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it down."""
        figure = float(trainer.callback_metrics["val/video_auc"])
        self.seen.append((trainer.current_epoch, trainer.global_step, figure))


def fit(
    folder: Path, *callbacks: Callback, resume: bool = False, **options: Any
) -> tuple[torch.Tensor, list[Seen], int | str | None]:
    """Train three epochs; return the weights, the validations, and the exit code if there was."""
    module, diary = TinyModule(), Diary()
    usual = (StepSeed(3), SaveOnSignal(), diary)
    trainer = tiny_trainer(folder, *callbacks, *usual, max_epochs=3, **options)
    path = folder / "checkpoints" / "last.ckpt"
    code = None
    try:
        trainer.fit(module, datamodule=TinyData(), ckpt_path=str(path) if resume else None)
    except SystemExit as end:
        code = end.code
    return module.weight.detach().clone(), diary.seen, code


OPTIONS = [
    {},
    {"accumulate_grad_batches": 4},
    {"val_check_interval": 2},
    {"val_check_interval": 3, "accumulate_grad_batches": 2},
    {"val_check_interval": 5, "check_val_every_n_epoch": None},
    {"check_val_every_n_epoch": 2},
]
NAMES = ["plain", "accumulating", "val in epoch", "both", "val by steps", "val by epochs"]


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
@pytest.mark.parametrize(
    ("where", "count"),
    [("train", 2), ("train", 6), ("train", 7), ("train", 18), ("val", 1), ("val", 4), ("val", 5)],
)
def test_a_terminated_run_goes_on_as_if_nothing_had_been(
    tmp_path: Path, where: str, count: int, options: dict[str, Any]
) -> None:
    weight, seen, _ = fit(tmp_path / "whole", **options)
    kick = Kick(where, count, signal.SIGTERM)
    _, before, code = fit(tmp_path / "cut", kick, **options)
    assert code == 143
    assert [path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()] == ["last.ckpt"]
    resumed, after, code = fit(tmp_path / "cut", resume=True, **options)
    assert code is None
    assert torch.equal(resumed, weight)
    assert before + after == seen


@pytest.mark.parametrize("where", ["train", "val"])
def test_sigusr1_saves_and_the_run_goes_on(tmp_path: Path, where: str) -> None:
    weight, seen, _ = fit(tmp_path / "whole")
    kicked, found, code = fit(tmp_path / "cut", Kick(where, 3, signal.SIGUSR1))
    assert code is None
    assert found == seen
    assert torch.equal(kicked, weight)
    resumed, after, _ = fit(tmp_path / "cut", resume=True)
    assert torch.equal(resumed, weight)
    assert after == seen  # what was saved lies before or in the first validation


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_checkpoint_by_another_callback_keeps_its_validation(tmp_path: Path) -> None:
    def saver(folder: Path) -> ModelCheckpoint:
        return ModelCheckpoint(
            folder / "checkpoints",
            filename="last",
            every_n_train_steps=6,
            enable_version_counter=False,
        )

    class Crash(Callback):
        def on_validation_start(self, *_: Any) -> None:
            raise RuntimeError("killed in the validation")

    whole = tmp_path / "whole"
    weight, seen, _ = fit(whole, saver(whole), enable_checkpointing=True)
    cut = tmp_path / "cut"
    with pytest.raises(RuntimeError, match="killed"):
        fit(cut, Crash(), saver(cut), enable_checkpointing=True)
    resumed, after, _ = fit(cut, saver(cut), resume=True, enable_checkpointing=True)
    assert after == seen
    assert torch.equal(resumed, weight)


def test_the_file_goes_where_the_checkpoints_are(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path / "elsewhere")
    _, _, code = fit(
        tmp_path / "run", saver, Kick("train", 1, signal.SIGTERM), enable_checkpointing=True
    )
    assert code == 143
    assert (tmp_path / "elsewhere" / "last.ckpt").is_file()


def test_handlers_come_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    fit(tmp_path / "a")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == before
    fit(tmp_path / "b", Kick("train", 1, signal.SIGTERM))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == before


def test_a_handler_for_sigusr1_is_called_after_the_file_is_there(tmp_path: Path) -> None:
    found = []

    def requeue(*_: object) -> None:
        found.append((tmp_path / "checkpoints" / "last.ckpt").is_file())

    before = signal.signal(signal.SIGUSR1, requeue)
    try:
        fit(tmp_path, Kick("train", 2, signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert found == [True]


def test_outside_the_main_thread_training_works_without_handlers(tmp_path: Path) -> None:
    codes: list[object] = []
    thread = threading.Thread(target=lambda: codes.append(fit(tmp_path)[2]))
    thread.start()
    thread.join()
    assert codes == [None]


@pytest.mark.slow
def test_one_process_of_two_is_told_and_both_stop(tmp_path: Path) -> None:
    done = run_job("terminated", tmp_path)
    assert done.returncode == 143, done.stderr[-2000:]
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 4
