"""From the scores of parts to the score of the whole: frames to a clip, clips to a video."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

Rule = Literal["mean", "max", "top_k"]


class Pooling(NamedTuple):
    """A rule that makes one probability of several.

    Attributes:
        rule: `mean` of all probabilities, the largest one (`max`), or the mean of the k largest
            (`top_k`).
        k: How many `top_k` takes; of fewer it takes all.
    """

    rule: Rule = "mean"
    k: int = 1

    def probability(self, parts: Sequence[float]) -> float:
        """Pool probabilities.

        Args:
            parts: Probabilities of fake, at least one.
        """
        chosen = sorted(parts, reverse=True)[: self._count(len(parts))]
        return math.fsum(chosen) / len(chosen)

    def log_odds(self, logit: Tensor) -> Tensor:
        """Pool log-odds: of their probabilities the pooled one, again as log-odds.

        Never leaves the scale of logits, so that scores near 0 and 1 keep their order and their
        gradient.

        Args:
            logit: Log-odds of fake, shape (B, T), float; taken to float32 under mixed precision.

        Returns:
            Log-odds of fake, shape (B,), float32 (float64 for float64 logits).
        """
        from torch.nn import functional as F  # noqa: N812 (reports pool without torch)

        if logit.dtype.itemsize < 4:
            logit = logit.float()
        count = self._count(logit.shape[1])
        chosen = logit.topk(count, dim=1).values
        if count == 1:
            return chosen.squeeze(1)
        # The number of parts cancels out.
        return F.logsigmoid(chosen).logsumexp(1) - F.logsigmoid(-chosen).logsumexp(1)

    def of_groups(self, part: NDArray[np.float64], start: NDArray[np.int64]) -> NDArray[np.float64]:
        """Pool probabilities of many wholes at once.

        Args:
            part: Probabilities of fake, those of a whole one after the other, shape (N,), float64.
            start: Where each whole starts, ascending from 0, shape (G,), int64.

        Returns:
            Pooled probabilities, shape (G,), float64.
        """
        if not len(start):
            return np.zeros(0)
        count = np.diff(np.append(start, len(part)))
        if self.rule == "mean":
            return np.add.reduceat(part, start) / count
        whole = np.repeat(np.arange(len(start)), count)
        descending = part[np.lexsort((-part, whole))]
        rank = np.arange(len(part)) - start[whole]
        taken = np.minimum(count, self._count(len(part)))
        return np.add.reduceat(np.where(rank < taken[whole], descending, 0.0), start) / taken

    @property
    def key(self) -> str:
        """Short name, as a ledger has it; `from_key` reads it."""
        return f"top_{self.k}" if self.rule == "top_k" else self.rule

    def __str__(self) -> str:
        return f"mean of the {self.k} highest" if self.rule == "top_k" else self.rule

    def _count(self, parts: int) -> int:
        return min(parts, {"mean": parts, "max": 1, "top_k": self.k}[self.rule])


#: FTCN's rule for a video (official inference code).
MEAN = Pooling()


def from_key(key: str) -> Pooling:
    """Read the short name of a rule.

    Args:
        key: `mean`, `max` or `top_<k>`.

    Raises:
        ValueError: If it is none of them.
    """
    if key in ("mean", "max"):
        return Pooling("mean" if key == "mean" else "max")
    number = key.removeprefix("top_")
    if number == key or not number.isdecimal():
        raise ValueError(f"no rule of pooling: '{key}'; there are mean, max and top_<k>")
    return pooling("top_k", int(number))


def pooling(rule: Rule, k: int) -> Pooling:
    """Check and make a rule.

    Args:
        rule: See `Pooling`.
        k: How many `top_k` takes.

    Raises:
        ValueError: If k is less than one.
    """
    if k < 1:
        raise ValueError(f"top_k takes at least 1, got {k}")
    return Pooling(rule, k)
