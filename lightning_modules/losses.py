"""Losses as pure functions of tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

MarginType = Literal["cos", "arc"]
"""Where the margin of a softmax is taken off: the cosine or the angle."""


def binary_cross_entropy(logit: Tensor, label: Tensor) -> Tensor:
    """Compute the mean binary cross-entropy of a log-odds score.

    Args:
        logit: Log-odds of fake, shape (B,), float; taken to float32 under mixed precision.
        label: 0 real, 1 fake, shape (B,), float.

    Returns:
        Scalar loss, float32 (float64 for float64 logits).
    """
    logit = _at_least_float32(logit)
    return functional.binary_cross_entropy_with_logits(logit, label.to(logit.dtype))


def am_softmax(
    cosine: Tensor,
    label: Tensor,
    *,
    margin: float = 0.5,
    scale: float = 30.0,
    gamma: float = 0.0,
    margin_type: MarginType = "cos",
    t: float = 1.0,
) -> Tensor:
    """Compute the mean additive-margin softmax loss of cosines.

    Wang, Cheng, Liu, Liu: "Additive Margin Softmax for Face Verification", arXiv 1801.05599, with
    the options of HFF's released code (commit bcdb903), whose defaults these are.

    Args:
        cosine: Of the angle between a feature and each class, shape (B, C), in [-1, 1]; logits of
            a linear layer are something else, see `margin_cross_entropy`. Taken to float32 under
            mixed precision.
        label: The class, shape (B,), integer or float.
        margin: Taken off the true class's cosine, or added to its angle (radians).
        scale: Factor on all cosines.
        gamma: Exponent of the focal factor (1 - p)^gamma; 0 switches it off.
        margin_type: `cos`, or `arc` for a margin on the angle (ArcFace, arXiv 1801.07698).
        t: From 1 on. Cosines of wrong classes that exceed the true one's are raised to
            t * cosine + t - 1 (support vectors of arXiv 1812.11317); 1 switches it off. Never
            run officially: there it fails on present versions of torch.

    Returns:
        Scalar loss, float32 (float64 for float64 cosines).

    Raises:
        ValueError: If there is no such type of margin.
    """
    if margin_type not in get_args(MarginType):
        raise ValueError(f"There is no margin {margin_type!r}; there are {get_args(MarginType)}.")
    cosine = _at_least_float32(cosine)
    label = label.long()
    is_true = _is_class(cosine, label)
    lowered = cosine - margin if margin_type == "cos" else _wider_angle(cosine, margin)
    if t > 1:
        true = lowered.gather(1, label[:, None])
        cosine = torch.where(cosine > true, t * cosine + t - 1, cosine)
    scores = scale * torch.where(is_true, lowered, cosine)
    losses = functional.cross_entropy(scores, label, reduction="none")
    if gamma > 0:
        losses = (1 - (-losses).exp()) ** gamma * losses
    return losses.mean()


def margin_cross_entropy(
    logits: Tensor, label: Tensor, *, margin: float = 0.45, scale: float = 30.0
) -> Tensor:
    """Compute the mean cross-entropy of scaled logits, the true one lowered.

    What DeepfakeBench (commit 8a4a7bf) trains HFF with: the formula of `am_softmax` on logits of
    a linear layer, which are no cosines.

    Args:
        logits: Shape (B, C), any size; taken to float32 under mixed precision.
        label: The class, shape (B,), integer or float.
        margin: Taken off the true class's logit.
        scale: Factor on all logits.

    Returns:
        Scalar loss, float32 (float64 for float64 logits).
    """
    logits, label = _at_least_float32(logits), label.long()
    lowered = torch.where(_is_class(logits, label), logits - margin, logits)
    return functional.cross_entropy(scale * lowered, label)


def _is_class(scores: Tensor, label: Tensor) -> Tensor:
    """Mark the true class: shape (B, C), bool."""
    return torch.arange(scores.shape[1], device=label.device) == label[:, None]


def _wider_angle(cosine: Tensor, margin: float) -> Tensor:
    """Return cos(angle + margin); beyond a half turn, where that would rise again, a line."""
    # The root has no finite slope at 0, where a feature points straight at its class.
    sine = (1 - cosine**2).clamp_min(torch.finfo(cosine.dtype).eps).sqrt()
    wider = cosine * math.cos(margin) - sine * math.sin(margin)
    beyond = cosine - margin * math.sin(margin)
    return torch.where(cosine > math.cos(math.pi - margin), wider, beyond)


def _at_least_float32(scores: Tensor) -> Tensor:
    return scores.float() if scores.dtype.itemsize < 4 else scores
