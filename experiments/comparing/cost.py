"""What runs cost: parameters, operations, speed, time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from experiments.comparing.runs import Run


@dataclass(frozen=True)
class Cost:
    """What a run says it cost; a number it does not say is NaN, a text empty.

    Attributes:
        parameters: Of the module, in millions.
        trained: Those that are trained, in millions.
        gflops: Of the forward of one clip, a multiplication and an addition as 2, in 1e9.
        clips_per_s: Median of the reports of training, all processes together.
        hours: From the start of the training to its end, validation and waiting included.
        device: What it ran on.
        precision: Of its arithmetic.
    """

    parameters: float
    trained: float
    gflops: float
    clips_per_s: float
    hours: float
    device: str
    precision: str


def cost_of(run: Run) -> Cost:
    """Read what a run's record and curves say.

    Args:
        run: Any; an old one may say little.
    """
    fit = run.fit
    cost, machine = fit.get("cost") or {}, fit.get("machine", {})
    return Cost(
        parameters=_number(cost.get("parameters")) / 1e6,
        trained=_number(cost.get("trained_parameters")) / 1e6,
        gflops=_number(cost.get("gflops_per_clip")),
        clips_per_s=_median(run.curves, "train/clips_per_s"),
        hours=_hours(fit.get("started"), fit.get("ended")),
        device=_device(machine),
        precision=str(machine.get("precision", "")),
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _median(curves: pl.DataFrame, name: str) -> float:
    middle = curves[name].median() if name in curves.columns else None
    return _number(middle)


def _hours(started: str | None, ended: str | None) -> float:
    if not started or not ended:
        return math.nan
    taken = datetime.fromisoformat(ended) - datetime.fromisoformat(started)
    return taken.total_seconds() / 3600


def _device(machine: dict[str, Any]) -> str:
    gpus = machine.get("gpus") or []
    if gpus and "CPU" not in str(machine.get("accelerator")):
        return f"{machine.get('processes', 1)} x {gpus[0]}"
    return f"{machine['cpus']} CPU cores" if machine.get("cpus") else ""
