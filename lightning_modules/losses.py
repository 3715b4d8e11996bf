"""Losses as pure functions of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def binary_cross_entropy(logit: Tensor, label: Tensor) -> Tensor:
    """Compute the mean binary cross-entropy of a log-odds score.

    Args:
        logit: Log-odds of fake, shape (B,), float; taken to float32 under mixed precision.
        label: 0 real, 1 fake, shape (B,), float.

    Returns:
        Scalar loss, float32 (float64 for float64 logits).
    """
    if logit.dtype.itemsize < 4:
        logit = logit.float()
    return functional.binary_cross_entropy_with_logits(logit, label.to(logit.dtype))
