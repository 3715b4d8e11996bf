"""What every method shares: steps, logs, optimiser wiring, written once."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn

from lightning_modules.losses import binary_cross_entropy
from lightning_modules.normalisation import IMAGENET, Normalisation
from lightning_modules.pooling import Rule, pooling
from lightning_modules.schedules import LRSchedule
from lightning_modules.video_scores import VideoScores
from weights.errors import WeightsError
from weights.loading import LoadReport, load_weights, require_constants

if TYPE_CHECKING:
    from pytorch_lightning.utilities.types import OptimizerLRScheduler

    from datamodules.schema import ClipBatch
    from lightning_modules.outputs import ForgeryOutput

#: Bootstrap resamples behind the interval of a test.
NUM_RESAMPLES = 2000

StepScores = dict[str, Tensor]
"""What a step returns: logit, label, video_index, clip_index, each of shape (B,); and of methods
that score frames frame_logit, shape (B, T)."""


class ForgeryModule(LightningModule):
    """A method: a network, its loss, and how it is trained.

    A method supplies `forward`, and may override `normalisation`, `losses`, `parameter_groups`,
    `backbone_modules`, `evidence_layers`, `freeze_parts` and `load_pretrained`; steps, metrics and
    optimiser wiring are here and are not overridden. Clips come raw from any data and are
    normalised here, on the device, in every stage.

    Args:
        optimizer: Builds the optimiser from parameter groups. It has no default: a default's
            weight decay would leak into recipes that do not name theirs.
        num_frames: Frames in a clip (T); linked to the data's.
        image_size: Height and width of a clip in pixels; linked to the data's.
        lr_schedule: Factor on the learning rate by progress, stepped every optimiser step; None
            keeps it constant.
        lr_clips: Clips of an optimiser step that the optimiser's learning rate is meant for. It is
            scaled linearly to the clips of an actual step, over all processes and accumulated
            batches (Goyal et al. 2017, arXiv 1706.02677, section 2.1), so that a recipe holds on
            1 and on 64 GPUs; None takes the rate as it is.
        weights: File of pre-trained weights, in the official layout or a checkpoint of this suite,
            or a name that the method knows; `none` or None for none. Read once, when the first
            stage starts. A checkpoint given to a stage wins.
        freeze_backbone: Train the head alone; the backbone stays as loaded, its norms too.
        video_rule: From the probabilities of clips to that of a video: `mean` (FTCN's rule), `max`,
            or `top_k`, the mean of the k highest.
        top_k: The k of `top_k`. [3: ours]

    Attributes:
        normalisation: What the network's pictures are brought to.
        video_pooling: `video_rule` with its k.

    Raises:
        ValueError: If `top_k` is less than one.
    """

    normalisation: Normalisation = IMAGENET

    def __init__(
        self,
        optimizer: OptimizerCallable,
        num_frames: int,
        image_size: int,
        lr_schedule: LRSchedule | None = None,
        lr_clips: int | None = None,
        weights: str | None = None,
        freeze_backbone: bool = False,
        video_rule: Rule = "mean",
        top_k: int = 3,
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.num_frames = num_frames
        self.image_size = image_size
        self.lr_schedule = lr_schedule
        self.lr_clips = lr_clips
        self.weights = None if weights == "none" else weights
        self.freeze_backbone = freeze_backbone
        self.video_pooling = pooling(video_rule, top_k)
        self.val_scores = VideoScores(pooling=self.video_pooling)
        self.test_scores = nn.ModuleList()

    @abstractmethod
    def forward(self, clip: Tensor) -> ForgeryOutput:
        """Score normalised clips of shape (B, 3, T, H, W)."""

    def normalise(self, clip: Tensor) -> Tensor:
        """Turn raw frames, on any device, into what `forward` takes.

        Args:
            clip: RGB frames, shape (B, T, H, W, 3), uint8 or float in 0..255.

        Returns:
            Clips of shape (B, 3, T, H, W), float32; of the weights' type under true half or double
            precision.
        """
        return self.normalisation.apply(clip).to(self.dtype)

    def losses(self, output: ForgeryOutput, batch: ClipBatch) -> dict[str, Tensor]:
        """Return the named, weighted loss terms; the step sums them.

        Args:
            output: What `forward` gave for `batch`.
            batch: The clips and labels.
        """
        return {"bce": binary_cross_entropy(output.logit, batch["label"])}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return optimiser groups over the parameters that are trained."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def backbone_modules(self) -> list[nn.Module]:
        """Return the parts that `freeze_backbone` freezes.

        Raises:
            WeightsError: If the method does not say what its backbone is.
        """
        raise WeightsError(f"{type(self).__name__} has no backbone to freeze; drop --freeze")

    @property
    def evidence_steps(self) -> int:
        """Number of gradients that a map averages; less for networks that take long [ours]."""
        return 4

    def evidence_layers(self) -> list[nn.Module]:
        """Return the layers whose maps explain a score; none of them runs before another one.

        Their outputs are maps, (B, C, T', h, w) or (B * T', C, h, w), which are added up. Without
        any, the last map that the score depends on is looked for, whatever the network.
        """
        return []

    def freeze_parts(self) -> None:
        """Stop the training of the backbone, before the optimiser is built."""
        for module in self.backbone_modules():
            # A fit does not call train(): what is built in training mode would keep it.
            module.requires_grad_(False).eval()

    def load_pretrained(self, weights: str) -> LoadReport:
        """Load what training starts from.

        Args:
            weights: As given to the constructor.

        Returns:
            What of a file was left out, and what stayed as initialised.

        Raises:
            WeightsError: If they cannot be had or do not fit.
        """
        return load_weights(self, weights)

    # Steps: not overridden by methods.

    def setup(self, stage: str) -> None:
        """Load weights the first time, and make one metric for each test set."""
        if self.weights is not None:
            report = self.load_pretrained(self.weights)
            if report.text:
                rank_zero_info(f"{self.weights}: loaded ({report.text})")
            # A test after a fit sets up again, and must not undo the training.
            self.weights = None
        if self.freeze_backbone:
            self.freeze_parts()
        if stage == "test":
            self.test_scores = nn.ModuleList(
                VideoScores(NUM_RESAMPLES, self.video_pooling) for _ in self._test_names()
            )
            self.test_scores.to(self.device)
        records = getattr(self._datamodule(), "records", [])
        for metric in (self.val_scores, *self.test_scores):
            metric.describe(records)

    def train(self, mode: bool = True) -> ForgeryModule:
        """Switch modes; a frozen backbone stays in eval so that its norms keep their statistics."""
        super().train(mode)
        if mode and self.freeze_backbone:
            for module in self.backbone_modules():
                module.eval()
        return self

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Return the summed loss and log each term."""
        terms = self.losses(self(self.normalise(batch["clip"])), batch)
        size = len(batch["label"])
        for name, term in terms.items():
            self.log(f"train/{name}", term.detach(), batch_size=size, on_step=False, on_epoch=True)
        loss = torch.stack(list(terms.values())).sum()
        self.log("train/loss", loss.detach(), batch_size=size, prog_bar=True)
        return loss

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> StepScores:
        """Score a batch of the validation set."""
        return self._score(batch, self.val_scores)

    def test_step(self, batch: ClipBatch, batch_idx: int, dataloader_idx: int = 0) -> StepScores:
        """Score a batch of one of the test sets."""
        metric = self.test_scores[dataloader_idx]
        assert isinstance(metric, VideoScores)
        return self._score(batch, metric)

    def predict_step(self, batch: ClipBatch, batch_idx: int, dataloader_idx: int = 0) -> StepScores:
        """Score a batch without touching any metric."""
        return self._score(batch, None)

    def on_validation_epoch_end(self) -> None:
        """Log `val/<metric>` over all ranks, once."""
        self._log_scores(self.val_scores, "val", progress="video_auc")

    def on_test_epoch_end(self) -> None:
        """Log `test/<metric>`, or `test/<name>/<metric>` for test sets that have a name."""
        names = self._test_names()
        for name, metric in zip(names, self.test_scores, strict=True):
            assert isinstance(metric, VideoScores)
            self._log_scores(metric, "test" if names == ["test"] else f"test/{name}")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser, and step the schedule with every optimiser step."""
        # The callable's type names parameters only, but every torch optimiser takes groups.
        optimizer = self.optimizer(self.parameter_groups())
        for group in optimizer.param_groups:
            group["lr"] *= self._lr_scale()
        if self.lr_schedule is None:
            return optimizer
        total = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = self.lr_schedule
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: schedule.factor(step / total)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say in the checkpoint which method it belongs to."""
        checkpoint["method"] = type(self).__name__

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another method or another structure, in one line.

        Raises:
            WeightsError: If the checkpoint's tensors are not this module's.
        """
        method = checkpoint.get("method", type(self).__name__)
        if method != type(self).__name__:
            raise WeightsError(
                f"the checkpoint belongs to {method}, not to {type(self).__name__}; "
                "choose the experiment it was trained by (--exp)"
            )
        own = {key: tuple(value.shape) for key, value in self.state_dict().items()}
        given = {key: tuple(value.shape) for key, value in checkpoint["state_dict"].items()}
        wrong = sorted(k for k in own.keys() | given.keys() if own.get(k) != given.get(k))
        if wrong:
            raise WeightsError(
                f"the checkpoint does not fit this {method}: {len(wrong)} tensors differ, "
                f"first {wrong[0]}; was it trained with other model options?"
            )
        require_constants(self, checkpoint["state_dict"], "the checkpoint")

    def _lr_scale(self) -> float:
        if self.lr_clips is None:
            return 1.0
        batch_size = int(self._datamodule().batch_size)
        processes, accumulated = self.trainer.world_size, self.trainer.accumulate_grad_batches
        return batch_size * processes * accumulated / self.lr_clips

    def _score(self, batch: ClipBatch, metric: VideoScores | None) -> StepScores:
        output = self(self.normalise(batch["clip"]))
        scores = {
            "logit": output.logit.detach().float(),
            "label": batch["label"],
            "video_index": batch["video_index"],
            "clip_index": batch["clip_index"],
        }
        if output.frame_logit is not None:
            scores["frame_logit"] = output.frame_logit.detach().float()
        if metric is not None:
            metric.update(**scores)
        return scores

    def _log_scores(self, metric: VideoScores, prefix: str, progress: str | None = None) -> None:
        # compute() gathers and merges over ranks, so that all ranks log the same number and no
        # further reduction must happen.
        for name, value in metric.compute().items():
            self.log(f"{prefix}/{name}", value, prog_bar=name == progress, sync_dist=False)
        metric.reset()

    def _test_names(self) -> list[str]:
        names: list[str] = getattr(self._datamodule(), "test_names", ["test"])
        return names

    def _datamodule(self) -> Any:
        # Lightning attaches it when a stage starts, but does not declare it.
        return getattr(self.trainer, "datamodule", None)
