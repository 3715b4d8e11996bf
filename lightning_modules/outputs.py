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
    """

    logit: Tensor
    features: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)
