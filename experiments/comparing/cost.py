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
        test_clips_per_s: Of the test or validation of most clips, loading included.
        test_videos_per_s: The same in videos.
        test_device: What that one ran on.
    """

    parameters: float
    trained: float
    gflops: float
    clips_per_s: float
    hours: float
    device: str
    precision: str
    test_clips_per_s: float
    test_videos_per_s: float
    test_device: str


def cost_of(run: Run) -> Cost:
    """Read what a run's records and curves say.

    Args:
        run: Any; an old one may say little.
    """
    fit, test = run.fit, _largest(run)
    machine = fit.get("machine", {})
    # What was trained before costs were recorded says them when it is tested again.
    known = (stage["cost"] for stage in (fit, *run.tests) if stage.get("cost"))
    cost: dict[str, Any] = next(known, {})
    clips, videos = (_figure(test, name) for name in ("num_clips", "num_videos"))
    rate = _figure(test, "clips_per_s")
    return Cost(
        parameters=_number(cost.get("parameters")) / 1e6,
        trained=_number(cost.get("trained_parameters")) / 1e6,
        gflops=_number(cost.get("gflops_per_clip")),
        clips_per_s=_median(run.curves, "train/clips_per_s"),
        hours=_hours(fit.get("started"), fit.get("ended")),
        device=_device(machine),
        precision=str(machine.get("precision", "")),
        test_clips_per_s=rate,
        test_videos_per_s=rate * videos / clips if clips else math.nan,
        test_device=_device(test.get("machine", {})),
    )


def _largest(run: Run) -> dict[str, Any]:
    """Find the test or validation that measured its speed longest; empty if none did."""
    timed = [stage for stage in run.tests if _figure(stage, "clips_per_s") > 0]
    return max(timed, key=lambda stage: (_figure(stage, "num_clips"), stage["started"]), default={})


def _figure(stage: dict[str, Any], name: str) -> float:
    """Sum a figure over the sets of a stage: `test/<name>`, `test/<set>/<name>`, `val/<name>`."""
    metrics = stage.get("metrics") or {}
    prefix = "val/" if stage.get("stage") == "validate" else "test/"
    values = [
        float(value)
        for key, value in metrics.items()
        if key.startswith(prefix) and key.endswith(f"/{name}") and value is not None
    ]
    return sum(values) if values else math.nan


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
