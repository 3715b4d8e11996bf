"""What a test runs on two processes: `python -m tests.support.distributed JOB FOLDER`."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback
from torch.utils.data import default_collate

from callbacks import AltFreezing, LastCheckpoint, SaveOnSignal, ScoreWriter, StepSeed
from lightning_modules.pooling import Pooling
from lightning_modules.video_scores import VideoScores
from tests.support import freezing
from tests.support.trainers import ResumableLoader, TinyData, TinyModule, make_clips, tiny_trainer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytorch_lightning import LightningModule, Trainer
    from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
#: Variables by which processes find each other; those of the tests' process are none of theirs.
_RENDEZVOUS = ("PL_", "LOCAL_RANK", "NODE_RANK", "MASTER_", "WORLD_SIZE", "GROUP_RANK")
_PATIENCE_S = 180
#: Signal the parent only, while its child is in the same step.
_SIGNALLED_STEP = 3


def run_job(job: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a job of this module in fresh processes.

    Args:
        job: Name of a function below.
        folder: Where it writes.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_RENDEZVOUS)}
    command = [sys.executable, "-m", "tests.support.distributed", job, str(folder)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**inherited, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, error = process.communicate(timeout=_PATIENCE_S)
    finally:
        # One process that died leaves the other one waiting for it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.returncode, out, error)


class _UnevenData(TinyData):
    """The second process gets one batch, of clips that the first has too."""

    def test_dataloader(self) -> ResumableLoader:
        """Shard by hand: Lightning leaves a loader of its own kind alone."""
        assert self.trainer is not None
        clips = make_clips()[: 2 if self.trainer.global_rank else None]
        pairs = [clips[i : i + 2] for i in range(0, len(clips), 2)]
        return ResumableLoader([default_collate(pair) for pair in pairs])


class _Kill(Callback):
    """Send SIGTERM to the first process alone."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Do it once."""
        if trainer.is_global_zero and trainer.global_step == _SIGNALLED_STEP:
            os.kill(os.getpid(), signal.SIGTERM)


def scores(folder: Path) -> None:
    """Measure padded, uneven and empty shares; every rank writes what it found."""
    found: dict[str, dict[str, float]] = {}
    trainer = _trainer(folder / "run", ScoreWriter())
    for name, data in (("padded", TinyData()), ("uneven", _UnevenData())):
        trainer.test(TinyModule(), datamodule=data, verbose=False)
        found[name] = _numbers(trainer.callback_metrics)
        if trainer.is_global_zero:
            shutil.copytree(folder / "run" / "scores", folder / name)
    metric = VideoScores()
    if trainer.is_global_zero:  # the other rank never sees a clip
        index = torch.arange(4)
        metric.update(index.float(), index % 2, index, index * 0)
    found["empty"] = _numbers(metric.compute())
    found |= {share: framed_figures(share, trainer.global_rank) for share in FRAME_SHARES}
    (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(found))


#: Which of five clips each of two ranks sees: equal shares, one filled up by a copy; all or none.
FRAME_SHARES: dict[str, tuple[list[int], list[int]]] = {
    "shared frames": ([0, 1, 2], [3, 4, 0]),
    "frames of one rank": ([0, 1, 2, 3, 4], []),
}


def framed_figures(share: str, rank: int) -> dict[str, float]:
    """Measure clips of three frames; two of three videos are real.

    Args:
        share: Key of `FRAME_SHARES`.
        rank: Whose part.
    """
    metric = VideoScores(pooling=Pooling("max"))
    logit = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    for clip in FRAME_SHARES[share][rank]:
        index = torch.tensor([clip])
        label = (index > 2).float()
        metric.update(logit[index].mean(1), label, (index + 1) // 2, index, logit[index])
    return _numbers(metric.compute())


def terminated(folder: Path) -> None:
    """Fit, and be told to stop by a signal to one process."""
    trainer = _trainer(folder, StepSeed(1), _Kill(), SaveOnSignal())
    trainer.fit(TinyModule(), datamodule=TinyData())


def alternation(folder: Path) -> None:
    """Freeze by turns in every setting; every rank writes what moved and a hash of its weights."""
    found: dict[str, list[str]] = {}
    settings = itertools.product(freezing.OPTIMIZERS, (1, 3), ("32-true", "bf16-mixed"))
    for optimizer, accumulated, precision in settings:
        options = {"accumulate_grad_batches": accumulated, "precision": precision}
        name = f"{optimizer} {accumulated} {precision}"
        found[name] = _alternate(folder, _freezing(), optimizer, **options)
    found["separate"] = _alternate(folder, _freezing(separate=True), "sgd")
    for separate in (False, True):
        own, last = folder / str(separate), LastCheckpoint(every_n_steps=1)
        options = {"steps": freezing.STOPPED, "enable_checkpointing": True}
        _alternate(own, _freezing(separate), "sgd", last, **options)
        found[f"resumed {separate}"] = _alternate(
            own, _freezing(separate), "sgd", ckpt_path=own / "checkpoints" / "last.ckpt"
        )
    rank = os.environ["LOCAL_RANK"]
    (folder / f"rank{rank}.json").write_text(json.dumps(found))


def _freezing(separate: bool = False) -> AltFreezing:
    return AltFreezing(*freezing.CYCLE, separate_momentum=separate)


def _alternate(
    folder: Path, alternate: AltFreezing, optimizer: str, *callbacks: Callback, **options: Any
) -> list[str]:
    moves, module = freezing.Moves(), freezing.FactorizedModule(optimizer)
    options = {"strategy": "ddp", "devices": 2, **options}
    freezing.fit(folder, module, alternate, moves, *callbacks, **options)
    # The first trainer started the other process; the next ones must not start more.
    os.environ.setdefault("LOCAL_RANK", "0")
    digest = hashlib.sha256()
    for value in module.parameters():
        digest.update(value.detach().numpy().tobytes())
    return [moves.letters, digest.hexdigest()]


def _numbers(figures: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items()}


def _trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    return tiny_trainer(folder, *callbacks, strategy="ddp", devices=2, **options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    jobs = {"scores": scores, "terminated": terminated, "alternation": alternation}
    jobs[sys.argv[1]](Path(sys.argv[2]))
