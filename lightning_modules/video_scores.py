"""The figures of frames, clips and videos while a model runs: one torchmetrics metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_modules.bootstrap import bootstrap_interval
from lightning_modules.dependence import shared_identities
from lightning_modules.metrics import (
    average_precision,
    equal_error_rate,
    merge_clips,
    roc_auc,
    video_table,
)
from lightning_modules.pooling import MEAN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from datamodules.schema import VideoRecord
    from lightning_modules.dependence import Shared
    from lightning_modules.metrics import ClipTable, Ints
    from lightning_modules.pooling import Pooling

#: How many clips an error message names.
_MAX_NAMED = 3


class VideoScores(Metric):
    """Metrics of frames, clips and videos, the same on one process and on many.

    After gathering, equal keys (video_index, clip_index) are merged, so that the copies with which
    a sampler pads the last batch count once; then clips are pooled to videos. A frame is one place
    of one clip: where clips overlap, or a short track is mirrored, a frame of the video is shown
    and counted more than once. Clips of one frame never do that.

    `compute` returns 0-d float32 tensors: clip_auc (ranked by logit; what DeepfakeBench reports as
    the "video_auc" of clip models), video_auc (clips pooled to videos), video_eer,
    video_ap, num_videos, num_clips; where frames were scored also frame_auc and num_frames; with
    resampling also video_auc_low and video_auc_high, the 95 % interval. An absent class gives NaN.

    Args:
        num_resamples: Bootstrap resamples for the interval; 0 leaves the interval out.
        pooling: How the clips of a video become its score.
    """

    is_differentiable = False
    full_state_update = False

    logit: list[Tensor]
    label: list[Tensor]
    key: list[Tensor]
    frame_logit: list[Tensor]

    def __init__(self, num_resamples: int = 0, pooling: Pooling = MEAN) -> None:
        super().__init__()
        self.num_resamples = num_resamples
        self.pooling = pooling
        self._names: list[str] = []
        self._identities: list[tuple[str, ...]] = []
        self.add_state("logit", default=[], dist_reduce_fx="cat")
        self.add_state("label", default=[], dist_reduce_fx="cat")
        self.add_state("key", default=[], dist_reduce_fx="cat")
        # One after the other in the order of clips, all of which have as many: a rank that saw
        # none then needs not know how many.
        self.add_state("frame_logit", default=[], dist_reduce_fx="cat")

    def describe(self, records: Sequence[VideoRecord]) -> None:
        """Tell the metric what its videos are called and which belong together.

        Without it errors name row numbers and the interval draws videos on their own.

        Args:
            records: The manifest; its rows are the video indices. A video is drawn together with
                those whose first group id is the same; the others widen the interval.
        """
        self._names = [record.video_id for record in records]
        self._identities = [record.identities for record in records]

    def update(
        self,
        logit: Tensor,
        label: Tensor,
        video_index: Tensor,
        clip_index: Tensor,
        frame_logit: Tensor | None = None,
    ) -> None:
        """Add a batch of clips.

        Args:
            logit: Log-odds of fake, shape (B,), any float.
            label: 0 real, 1 fake, shape (B,).
            video_index: Row of the manifest, shape (B,), int64.
            clip_index: Position inside the video, shape (B,), int64.
            frame_logit: Log-odds of the clips' frames, shape (B, T), any float; given for all
                clips, with the same T, or for none.

        Raises:
            ValueError: If a shape is not (B,), or that of frames not (B, T).
        """
        shapes = [tuple(value.shape) for value in (logit, label, video_index, clip_index)]
        if logit.ndim != 1 or len(set(shapes)) > 1:
            raise ValueError(f"logit, label, video_index, clip_index must be (B,), got {shapes}")
        frames = logit.new_zeros(len(logit), 0) if frame_logit is None else frame_logit
        if frames.ndim != 2 or len(frames) != len(logit):
            raise ValueError(f"frame_logit must be ({len(logit)}, T), got {tuple(frames.shape)}")
        self._add(logit, label, torch.stack([video_index, clip_index], dim=1), frames)

    def sync(
        self,
        dist_sync_fn: Callable[..., list[Tensor]] | None = None,
        process_group: object | None = None,
        should_sync: bool = True,
        distributed_available: Callable[[], bool] | None = None,
    ) -> None:
        """Gather the states of all ranks; a rank that saw no clip takes part with none.

        Without the empty tensors it would send some of another type and rank, which hangs.
        """
        if isinstance(self.logit, list) and not self.logit:
            nothing = torch.zeros(0, device=self.device)
            self._add(nothing, nothing, nothing.reshape(0, 2), nothing)
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def compute(self) -> dict[str, Tensor]:
        """Merge, average and measure what all ranks saw.

        Raises:
            FloatingPointError: If a logit is not finite; names the videos.
            ValueError: If clips of one video disagree about its label.
        """
        clips = self._clips()
        self._check_finite(clips)
        videos = video_table(clips, self.pooling)
        values = {
            "clip_auc": roc_auc(clips.label, clips.logit),
            "video_auc": roc_auc(videos.label, videos.score),
            "video_eer": equal_error_rate(videos.label, videos.score),
            "video_ap": average_precision(videos.label, videos.score),
            "num_videos": float(len(videos.label)),
            "num_clips": float(len(clips.label)),
        }
        num_frames = clips.frame_logit.shape[1]
        if num_frames:
            label = clips.label.repeat(num_frames)
            values["frame_auc"] = roc_auc(label, clips.frame_logit.ravel())
            values["num_frames"] = float(len(label))
        if self.num_resamples:
            group, shared = self._dependence(videos.video_index)
            values["video_auc_low"], values["video_auc_high"] = bootstrap_interval(
                videos.label,
                videos.score,
                group,
                shared=shared,
                num_resamples=self.num_resamples,
            )
        return {name: torch.tensor(value, device=self.device) for name, value in values.items()}

    def _add(self, logit: Tensor, label: Tensor, key: Tensor, frame_logit: Tensor) -> None:
        # Every float is exact in float64, so that ties are the network's own; MPS has none.
        wide = torch.float32 if logit.device.type == "mps" else torch.float64
        self.logit.append(logit.detach().to(wide))
        self.label.append(label.detach().long())
        self.key.append(key.detach().long())
        self.frame_logit.append(frame_logit.detach().to(wide).flatten())

    def _clips(self) -> ClipTable:
        if isinstance(self.logit, list) and not self.logit:
            none = np.zeros(0, dtype=np.int64)
            return merge_clips(none.astype(np.float64), none, none.reshape(0, 2))
        states = (self.logit, self.label, self.key, self.frame_logit)
        logit, label, key, frames = (dim_zero_cat(state).cpu().numpy() for state in states)
        # No clip at all has no frames either, and nothing to tell their number by.
        by_clip = frames.reshape(len(logit), -1) if len(logit) else None
        return merge_clips(logit, label, key, by_clip)

    def _check_finite(self, clips: ClipTable) -> None:
        finite = np.isfinite(clips.logit) & np.isfinite(clips.frame_logit).all(axis=1)
        bad = np.flatnonzero(~finite)
        if not len(bad):
            return
        named = ", ".join(
            f"{self._name(clips.video_index[i])} clip {clips.clip_index[i]}"
            for i in bad[:_MAX_NAMED]
        )
        more = ", ..." if len(bad) > _MAX_NAMED else ""
        raise FloatingPointError(
            f"{len(bad)} of {len(clips.logit)} logits are not finite ({named}{more}): "
            "training diverged, or the precision is too narrow"
        )

    def _name(self, video_index: int) -> str:
        known = video_index < len(self._names)
        return self._names[video_index] if known else f"video {video_index}"

    def _dependence(self, video_index: Ints) -> tuple[Ints | None, Shared | None]:
        if not len(video_index) or video_index.max() >= len(self._identities):
            return None, None
        shown = [self._identities[i] for i in video_index]
        first = np.unique([names[0] for names in shown], return_inverse=True)[1]
        return first.astype(np.int64), shared_identities(shown)
