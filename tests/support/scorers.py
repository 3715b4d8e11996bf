"""Scorers without a network, for tests of what surrounds them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from experiments.predicting.scorer import ClipScores, ClipSpec, ModelFacts
from lightning_modules.pooling import MEAN


def clip_spec(name: str = "toy", **changes: object) -> ClipSpec:
    """Describe a scorer of clips of 4 frames of 32 pixels, except for what is changed."""
    facts = ModelFacts(source="runs/toy", checkpoint="best.ckpt", checkpoint_sha256="0" * 64)
    values: dict[str, object] = {
        "name": name,
        "method": "Toy",
        "num_frames": 4,
        "image_size": 32,
        "alignment": "clip",
        "frame_rule": None,
        "video_rule": MEAN,
        "spread": None,
        "batch": 3,
        "facts": facts,
    }
    return ClipSpec(**(values | changes))  # type: ignore[arg-type]


@dataclass
class BrightnessScorer:
    """Scores a clip by how bright it is, and remembers what it was given.

    Attributes:
        spec: What clips it takes.
        given: The batches, in order.
    """

    spec: ClipSpec = field(default_factory=clip_spec)
    given: list[NDArray[np.uint8]] = field(default_factory=list)

    def score_clips(self, clips: NDArray[np.uint8]) -> ClipScores:
        """Give (mean - 128) / 32 as log-odds."""
        self.given.append(clips)
        return ClipScores((clips.mean(axis=(1, 2, 3, 4)) - 128) / 32, None)
