"""What methods that score single frames share: frames in, clips and videos out."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor

from lightning_modules.base import ForgeryModule
from lightning_modules.losses import binary_cross_entropy
from lightning_modules.outputs import ForgeryOutput, FrameScores
from lightning_modules.pooling import Rule, pooling

if TYPE_CHECKING:
    from datamodules.schema import ClipBatch


class FrameMethod(ForgeryModule):
    """A method whose network sees one frame at a time.

    It takes the same clips as every other method. A method of this kind supplies `score_frames`,
    and may override `frame_losses`: every frame is an example of its own in the loss, and carries
    the label of its clip. The score of a clip is pooled from its frames by `frame_rule`, that of a
    video from its clips by `video_rule`; both pool probabilities. Beside the figures of clips and
    videos there is `frame_auc`.

    With clips of one frame (`data.init_args.num_frames` 1) a clip is a frame, and `clips_per_video`
    counts the frames of a video, spread evenly over it, as DeepfakeBench takes them.

    Args:
        optimizer: Builds the optimiser from parameter groups.
        num_frames: Frames in a clip (T).
        image_size: Height and width of a frame in pixels.
        frame_rule: From frames to a clip: `mean`, `max`, or `top_k`, the mean of the k highest.
        top_k: The k of `top_k`, here and in `video_rule`. [3: ours]
        **kwargs: As `ForgeryModule` takes them.

    Raises:
        ValueError: If `top_k` is less than one.
    """

    def __init__(
        self,
        optimizer: OptimizerCallable,
        num_frames: int,
        image_size: int,
        frame_rule: Rule = "mean",
        top_k: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, num_frames, image_size, top_k=top_k, **kwargs)
        self.frame_pooling = pooling(frame_rule, top_k)

    @abstractmethod
    def score_frames(self, frames: Tensor) -> FrameScores:
        """Score normalised frames of shape (N, 3, H, W), float."""

    def forward(self, clip: Tensor) -> ForgeryOutput:
        """Score normalised clips of shape (B, 3, T, H, W), float; features are means over T."""
        frames = clip.transpose(1, 2).flatten(0, 1)
        # A fifth of a training step of Xceptions on a CPU: convolutions follow the input's layout.
        scores = self.score_frames(frames.contiguous(memory_format=torch.channels_last))
        frame_logit = scores.logit.reshape(len(clip), -1)
        features = scores.features
        if features is not None:
            features = features.reshape(*frame_logit.shape, -1).mean(1)
        return ForgeryOutput(
            logit=self.frame_pooling.log_odds(frame_logit),
            features=features,
            extras=scores.extras,
            frame_logit=frame_logit,
        )

    def losses(self, output: ForgeryOutput, batch: ClipBatch) -> dict[str, Tensor]:
        """Give every frame the label of its clip; see `frame_losses`."""
        assert output.frame_logit is not None
        label = batch["label"].repeat_interleave(output.frame_logit.shape[1])
        return self.frame_losses(output, label)

    def frame_losses(self, output: ForgeryOutput, label: Tensor) -> dict[str, Tensor]:
        """Return the named, weighted loss terms of N = B * T frames.

        Args:
            output: Of `forward`; its extras are those of `score_frames`, first axis N.
            label: 0 real, 1 fake, shape (N,), float32; frames in the order of `score_frames`.
        """
        assert output.frame_logit is not None
        return {"bce": binary_cross_entropy(output.frame_logit.flatten(), label)}
