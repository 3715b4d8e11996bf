"""Learning-rate schedules as pure functions of the progress of a run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod


class LRSchedule(ABC):
    """Factor on the base learning rate as a function of progress, so that it shrinks with a run."""

    @abstractmethod
    def factor(self, progress: float) -> float:
        """Return the factor on the base learning rate.

        Args:
            progress: Share of the run's optimiser steps that are done, in 0..1.
        """


class WarmupCosine(LRSchedule):
    """Linear warm-up into a cosine that falls to zero.

    The warm-up is a straight line from `start_factor` to the value of the cosine at the end of the
    warm-up, as SlowFast's schedule does it (FTCN's embedded configuration; spec values for 100
    epochs with 10 of warm-up and base rate 0.1: 0.01 at epoch 0, 0.0975528 at 10, 0.05 at 50).

    Args:
        warmup_fraction: Share of the run spent warming up, in 0..1.
        start_factor: Factor at the first step.

    Raises:
        ValueError: If a fraction is out of range.
    """

    def __init__(self, warmup_fraction: float, start_factor: float) -> None:
        if not 0 <= warmup_fraction < 1:
            raise ValueError(f"warmup_fraction must lie in [0, 1), got {warmup_fraction}")
        if not 0 <= start_factor <= 1:
            raise ValueError(f"start_factor must lie in [0, 1], got {start_factor}")
        self.warmup_fraction = warmup_fraction
        self.start_factor = start_factor

    def factor(self, progress: float) -> float:
        """Return the factor on the base learning rate at `progress` in 0..1."""
        progress = min(max(progress, 0.0), 1.0)
        if progress >= self.warmup_fraction:
            return _cosine(progress)
        end = _cosine(self.warmup_fraction)
        return self.start_factor + (end - self.start_factor) * progress / self.warmup_fraction


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))
