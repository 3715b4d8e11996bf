"""What a method returns, in training and in evaluation alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ForgeryOutput:
    """Scores of B clips.

    Attributes:
        logit: Log-odds of fake, shape (B,), float.
        features: What the head saw, shape (B, D), or None.
        extras: Named tensors for the method's own loss terms.
        frame_logit: Log-odds of fake of each frame, shape (B, T), float; None where the method
            scores clips only.
    """

    logit: Tensor
    features: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)
    frame_logit: Tensor | None = None


@dataclass(frozen=True)
class FrameScores:
    """Scores of N single frames.

    Attributes:
        logit: Log-odds of fake, shape (N,), float.
        features: What the head saw, shape (N, D), or None.
        extras: Named tensors for the method's own loss terms, first axis N.
    """

    logit: Tensor
    features: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)
