"""Run folders as runs leave them, without a network behind them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from tests.support.ledgers import SOURCE, toy_record, write_toy

if TYPE_CHECKING:
    from pathlib import Path

#: Set -> methods of its fakes.
SETS: dict[str, tuple[str, ...]] = {
    "ffpp": ("Deepfakes", "Face2Face"),
    "celeb_df_v2": ("Celeb-synthesis",),
}
CURVES = """epoch,step,train/loss,train/clips_per_s,val/video_auc
0,9,0.7,12.0,
0,9,,,0.6
1,19,0.4,14.0,
1,19,,,0.8
"""


def write_run(
    folder: Path,
    experiment: str = "toy",
    seed: int = 1,
    skill: float = 1.0,
    people: int = 12,
    sets: dict[str, tuple[str, ...]] | None = None,
    **config: Any,
) -> Path:
    """Write a run: ledgers, configuration, record and curves.

    Args:
        folder: Where it goes; its name is the run's.
        experiment: Its experiment.
        seed: Its seed.
        skill: How far apart it scores reals and fakes.
        people: Real videos of each set; the last one has no face.
        sets: Set -> methods of its fakes; the first one is the run's own test.
        **config: Further settings.
    """
    source = replace(
        SOURCE, experiment=experiment, seed=seed, run=folder.name, checkpoint=f"c-{folder.name}"
    )
    generator = np.random.default_rng(seed)
    for place, (name, methods) in enumerate((SETS if sets is None else sets).items()):
        records = [toy_record(f"{name}/real/{i}", 0, dataset=name, group_ids=(f"{name}{i}",))
                   for i in range(people)]  # fmt: skip
        records += [
            toy_record(
                f"{name}/{method}/{i}", 1, dataset=name, method=method, group_ids=(f"{name}{i}",),
                paired_real=f"{name}/real/{i}" if place == 0 else None,
            )
            for method in methods
            for i in range(people)
        ]  # fmt: skip
        middle = [skill * (1 if record.label else -1) for record in records]
        logits = [list(value + generator.normal(size=2)) for value in middle]
        logits[people - 1] = []
        scores = folder / ("scores" if place == 0 else f"evaluations/{name}/scores")
        write_toy(scores / "test.parquet", records, logits, source=source, set=name)
    settings = {"experiment": experiment, "seed_everything": seed, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "record.json").write_text(json.dumps({"run": folder.name, "stages": [_fit()]}))
    (folder / "metrics").mkdir()
    (folder / "metrics" / "metrics.csv").write_text(CURVES)
    return folder


def _fit() -> dict[str, Any]:
    return {
        "stage": "fit",
        "status": "finished",
        "started": "2026-01-01T10:00:00+00:00",
        "ended": "2026-01-01T11:30:00+00:00",
        "machine": {"cpus": 2, "gpus": [], "accelerator": "CPUAccelerator", "precision": "32-true"},
        "cost": {"parameters": 2_000_000, "trained_parameters": 1_000_000, "gflops_per_clip": 1.5},
    }
