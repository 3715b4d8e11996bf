"""A run that was interrupted anywhere ends with the weights of one that was not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from datamodules import FolderDataModule
from datamodules.fake_from_real import FakeFromReal
from datamodules.transforms import ClipAugmentation
from datamodules.video_blending import VideoBlend
from tests.support.stores import write_store

if TYPE_CHECKING:
    from pathlib import Path

    from datamodules.schema import ClipBatch

# The callback that saved is left out of the second run, or saves elsewhere, on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]

EPOCHS = 3
#: 12 training videos in batches of 3.
STEPS = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    counts: Any = {("train", 0): 6, ("train", 1): 6, ("val", 0): 1, ("val", 1): 1}
    write_store(folder, counts, num_frames=8)
    return folder


class _Tiny(LightningModule):
    """A module whose weights remember every clip in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.seen: list[tuple[int, ...]] = []

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        self.seen.append(tuple(batch["video_index"].tolist()))
        logit = self.net(batch["clip"].float().mean(dim=(1, 2, 3)) / 255).squeeze(1)
        return nn.functional.binary_cross_entropy_with_logits(logit, batch["label"])

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        self.net(batch["clip"].float().mean(dim=(1, 2, 3)) / 255)

    def configure_optimizers(self) -> Any:
        # Asking for the number of steps makes Lightning build the loader before it restores.
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1 - i / (2 * steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _StepSeed(Callback):
    """Make dropout a function of the step."""

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        torch.manual_seed(1000 + trainer.global_step)


class _CrashError(Exception):
    """Stands for a crash."""


class _KillAt(Callback):
    """Raise in the middle of a step, before or after its weights changed."""

    def __init__(self, step: int, saved: Path | None = None) -> None:
        self.step = step
        self.saved = saved

    def on_before_zero_grad(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            if self.saved is not None:
                trainer.save_checkpoint(self.saved)
            raise _CrashError


def _fit(
    root: Path,
    callbacks: list[Callback],
    ckpt_path: Path | None = None,
    workers: int = 0,
    seed: int = 5,
    fake_from_real: FakeFromReal | None = None,
    batch_size: int = 3,
    **options: Any,
) -> _Tiny:
    seed_everything(7)
    datamodule = FolderDataModule(
        root=root,
        num_frames=4,
        image_size=16,
        batch_size=batch_size,
        num_workers=workers,
        eval_clips_per_video=1,
        augmentation=ClipAugmentation(flip_prob=0.5, noise_prob=1.0),
        fake_from_real=fake_from_real,
        seed=seed,
    )
    model = _Tiny()
    settings: dict[str, Any] = {
        "max_epochs": EPOCHS,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
        "num_sanity_val_steps": 0,
    }
    trainer = Trainer(**{**settings, **options}, callbacks=[_StepSeed(), *callbacks])
    trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=False)
    return model


def _every_step(folder: Path, **options: Any) -> ModelCheckpoint:
    return ModelCheckpoint(
        folder, "{step}", save_top_k=-1, auto_insert_metric_name=False, **options
    )


def _equal(one: _Tiny, other: _Tiny) -> bool:
    return all(a.equal(b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.fixture(scope="module")
def whole(root: Path) -> _Tiny:
    """Train without a break."""
    return _fit(root, [])


def test_an_epoch_shows_what_the_sampler_says(root: Path, whole: _Tiny) -> None:
    assert len(whole.seen) == EPOCHS * STEPS
    assert len({whole.seen[i] for i in range(0, len(whole.seen), STEPS)}) == EPOCHS


@pytest.mark.parametrize(
    ("step", "workers"), [(1, 0), (3, 0), (4, 0), (6, 0), (8, 0), (11, 0), (4, 1), (6, 1)]
)
def test_resumed_after_any_step(
    root: Path, whole: _Tiny, tmp_path: Path, step: int, workers: int
) -> None:
    saver = _every_step(tmp_path, every_n_train_steps=1)
    with pytest.raises(_CrashError):
        _fit(root, [saver, _KillAt(step)], workers=workers)
    resumed = _fit(root, [], tmp_path / f"{step}.ckpt", workers=workers)
    assert resumed.seen == whole.seen[step:]
    assert _equal(resumed, whole)


@pytest.mark.parametrize("on_train_end", [False, True])
def test_resumed_after_an_epoch(
    root: Path, whole: _Tiny, tmp_path: Path, on_train_end: bool
) -> None:
    saver = _every_step(tmp_path, save_on_train_epoch_end=on_train_end)
    with pytest.raises(_CrashError):
        _fit(root, [saver, _KillAt(2 * STEPS + 2)])
    resumed = _fit(root, [], tmp_path / f"{2 * STEPS}.ckpt")
    assert resumed.seen == whole.seen[2 * STEPS :]
    assert _equal(resumed, whole)


def test_resumed_after_validation_in_mid_epoch(root: Path, whole: _Tiny, tmp_path: Path) -> None:
    saver = _every_step(tmp_path)
    options = {"val_check_interval": 2}
    with pytest.raises(_CrashError):
        _fit(root, [saver, _KillAt(STEPS + 3)], **options)
    resumed = _fit(root, [], tmp_path / f"{STEPS + 2}.ckpt", **options)
    assert resumed.seen == whole.seen[STEPS + 2 :]
    assert _equal(resumed, whole)


def test_resumed_from_a_checkpoint_in_the_middle_of_a_step(
    root: Path, whole: _Tiny, tmp_path: Path
) -> None:
    """Saved by a handler while a batch is under way: that batch is trained on again."""
    with pytest.raises(_CrashError):
        _fit(root, [_KillAt(STEPS + 1, tmp_path / "signal.ckpt")])
    resumed = _fit(root, [], tmp_path / "signal.ckpt")
    assert resumed.seen == whole.seen[STEPS + 1 :]
    assert _equal(resumed, whole)


PAIRS = FakeFromReal(real_fakes=0, pair=True, video_blend=VideoBlend(weight=10))


@pytest.mark.parametrize(
    ("step", "workers", "made", "batch_size"),
    [(2, 0, FakeFromReal(), 3), (6, 1, FakeFromReal(), 3), (3, 1, PAIRS, 2)],
)
def test_resumed_with_fakes_that_are_made(
    root: Path, tmp_path: Path, step: int, workers: int, made: FakeFromReal, batch_size: int
) -> None:
    options: Any = {"workers": workers, "fake_from_real": made, "batch_size": batch_size}
    whole = _fit(root, [], **options)
    saver = _every_step(tmp_path, every_n_train_steps=1)
    with pytest.raises(_CrashError):
        _fit(root, [saver, _KillAt(step)], **options)
    resumed = _fit(root, [], tmp_path / f"{step}.ckpt", **options)
    assert resumed.seen == whole.seen[step:]
    assert _equal(resumed, whole)


def test_resumed_twice(root: Path, whole: _Tiny, tmp_path: Path) -> None:
    saver = _every_step(tmp_path, every_n_train_steps=1)
    again = _every_step(tmp_path / "again", every_n_train_steps=1)
    with pytest.raises(_CrashError):
        _fit(root, [saver, _KillAt(3)])
    with pytest.raises(_CrashError):
        _fit(root, [again, _KillAt(6)], tmp_path / "3.ckpt")
    resumed = _fit(root, [], tmp_path / "again" / "6.ckpt")
    assert resumed.seen == whole.seen[6:]
    assert _equal(resumed, whole)


def test_resumed_in_epochs_cut_short(root: Path, tmp_path: Path) -> None:
    options = {"limit_train_batches": 3}
    whole = _fit(root, [], **options)
    saver = _every_step(tmp_path, every_n_train_steps=1)
    with pytest.raises(_CrashError):
        _fit(root, [saver, _KillAt(6)], **options)
    for step in (3, 5, 6):
        resumed = _fit(root, [], tmp_path / f"{step}.ckpt", **options)
        assert resumed.seen == whole.seen[step:]
        assert _equal(resumed, whole)


def test_resumed_where_gradients_are_accumulated(root: Path, tmp_path: Path) -> None:
    options = {"accumulate_grad_batches": 2}
    whole = _fit(root, [], **options)
    saver = _every_step(tmp_path, every_n_train_steps=1)
    with pytest.raises(_CrashError):
        _fit(root, [saver, _KillAt(3)], **options)
    resumed = _fit(root, [], tmp_path / "3.ckpt", **options)
    assert resumed.seen == whole.seen[6:]
    assert _equal(resumed, whole)


def test_resumed_where_steps_are_counted(root: Path, tmp_path: Path) -> None:
    options = {"max_epochs": -1, "max_steps": 10}
    whole = _fit(root, [], **options)
    saver = _every_step(tmp_path, every_n_train_steps=1)
    with pytest.raises(_CrashError):
        _fit(root, [saver, _KillAt(7)], **options)
    for step in (2, 4, 7):
        resumed = _fit(root, [], tmp_path / f"{step}.ckpt", **options)
        assert resumed.seen == whole.seen[step:]
        assert _equal(resumed, whole)


def test_other_clips_after_a_break_are_warned_of(root: Path, tmp_path: Path) -> None:
    saver = _every_step(tmp_path, every_n_train_steps=1)
    with pytest.raises(_CrashError):
        _fit(root, [saver, _KillAt(2)])
    with pytest.warns(UserWarning, match="not as it would have .*: seed was 5, is 6"):
        _fit(root, [], tmp_path / "2.ckpt", seed=6)


def test_a_loader_can_be_used_again_after_training(root: Path) -> None:
    model = _fit(root, [])
    loader = model.trainer.train_dataloader
    assert sum(1 for _ in loader) == STEPS
