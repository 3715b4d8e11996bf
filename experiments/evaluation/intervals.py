"""95 % intervals of the figures of videos; the one place that says how often is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lightning_modules.bootstrap import (
    Evidence,
    drawn_figures,
    resampled_figures,
    spread_interval,
)
from lightning_modules.dependence import auc_influence

if TYPE_CHECKING:
    from experiments.evaluation.figures import Videos

#: Bootstrap resamples behind an interval, as in a test.
NUM_RESAMPLES = 2000
#: Videos times resamples, beyond which fewer are drawn, and how many at least [ours]: the interval
#: of a million videos is narrow, and 200 draws tell its ends well enough.
_MAX_DRAWN = 100_000_000
_MIN_RESAMPLES = 200


class Intervals(NamedTuple):
    """Intervals of one set of videos.

    Attributes:
        bounds: Lower and upper bound by figure: `auc`, `ap`, `eer` and `balanced_accuracy`; NaN
            where a class is absent or in one group only.
        num_resamples: How many draws they are of.
        reason: Why there are none; empty where there are, or where a class is absent.
    """

    bounds: dict[str, tuple[float, float]]
    num_resamples: int
    reason: str = ""

    @property
    def auc(self) -> tuple[float, float]:
        """Bounds of the AUC."""
        return self.bounds["auc"]

    def columns(self) -> dict[str, float]:
        """Name the bounds `video_<figure>_low` and `video_<figure>_high`."""
        return {
            f"video_{name}_{end}": bound
            for name, bounds in self.bounds.items()
            for end, bound in zip(("low", "high"), bounds, strict=True)
        }


def resamples_for(num_videos: int, wanted: int = NUM_RESAMPLES) -> int:
    """Say how often to draw: of very many videos less often.

    Args:
        num_videos: How many there are.
        wanted: At most so often.
    """
    return min(wanted, max(_MIN_RESAMPLES, _MAX_DRAWN // max(1, num_videos)))


def video_intervals(
    videos: Videos, threshold: float = 0.5, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Intervals:
    """Draw identity groups, and measure all figures on the same draws.

    Args:
        videos: Those that figures count.
        threshold: A score that reaches it is called fake.
        num_resamples: At most so many draws.
        seed: Of the draws.
    """
    count = resamples_for(len(videos.label), num_resamples)
    label, score, group, shared = videos
    drawn = resampled_figures(
        label, score, group, threshold=threshold, num_resamples=count, seed=seed
    )
    values = drawn_figures(label, score, threshold)
    if np.isnan(values["auc"]):
        return Intervals(dict.fromkeys(drawn, (np.nan, np.nan)), count)
    # Measured on the AUC; the other figures are taken to depend on people as it does.
    evidence = Evidence.of(label, group, auc_influence(label, score)[1], shared)
    bounds = {name: spread_interval(values[name], drawn[name], evidence) for name in drawn}
    return Intervals(bounds, count, evidence.why_none())
