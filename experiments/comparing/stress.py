"""Robustness and confounds that were measured before, for the page."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from callbacks.ledger import ORDINARY
from experiments.errors import UsageError
from experiments.evaluation.figures import counted_videos
from experiments.evaluation.ledgers import read_evaluations
from lightning_modules.metrics import roc_auc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from experiments.comparing.runs import Run
    from experiments.evaluation.ledgers import Evaluation

#: Column of what has no levels.
_NO_LEVEL = "-"


@dataclass
class Heat:
    """AUC by perturbation and level.

    Attributes:
        levels: Columns.
        rows: By perturbation, then by level.
    """

    levels: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, name: str, level: int, auc: float) -> None:
        """Put a figure in its place; a later one of the same place counts."""
        self.rows.setdefault(name, {})[str(level or _NO_LEVEL)] = auc
        self.levels = sorted({column for row in self.rows.values() for column in row})


def robustness(runs: Sequence[Run], folders: Sequence[Path]) -> dict[str, Heat]:
    """Measure the ledgers that `make robustness` left of the compared checkpoints.

    Where they are gone, or of a version that did not tell conditions, its tables are read.

    Args:
        runs: The compared runs.
        folders: Where it wrote, at any depth.

    Returns:
        By name of the run; of other checkpoints nothing.

    Raises:
        UsageError: If a table is damaged.
        LedgerError: If a ledger is.
    """
    found: dict[str, Heat] = {}
    for content in _read(folders, "robustness.json"):
        for run in _tested_by(content.get("checkpoint"), runs):
            found[run.name] = _heat(content.get("rows", []))
    measured: dict[str, Heat] = {}
    for evaluation in _evaluations(folders):
        auc = _auc(evaluation)
        for run in _tested_by(evaluation.facts["checkpoint"], runs):
            name, level = _row(evaluation), evaluation.facts["level"]
            measured.setdefault(run.name, Heat()).add(name, level, auc)
    # Clean videos alone are no sweep.
    return found | {run: heat for run, heat in measured.items() if heat.levels != [_NO_LEVEL]}


def confounds(folders: Sequence[Path]) -> list[str]:
    """Read what `make confounds` warns of.

    Args:
        folders: Where it wrote, at any depth.

    Raises:
        UsageError: If a file is damaged.
    """
    lines = [w for content in _read(folders, "confounds.json") for w in content.get("warnings", [])]
    return [f"confound: {line}" for line in dict.fromkeys(map(str, lines))]


def _tested_by(checkpoint: object, runs: Sequence[Run]) -> list[Run]:
    return [
        run
        for run in runs
        if checkpoint in {str(one.facts["checkpoint"]) for one in run.evaluations.values()}
    ]


def _evaluations(folders: Sequence[Path]) -> Iterator[Evaluation]:
    """Read the ledgers of a sweep: clean videos, and perturbed ones that have a level."""
    paths = (path for folder in folders for path in sorted(folder.rglob("scores/test*.parquet")))
    for path in paths:
        for evaluation in read_evaluations([path]):
            if evaluation.facts["level"] or evaluation.is_ordinary:
                yield evaluation


def _row(evaluation: Evaluation) -> str:
    facts = evaluation.facts
    again = facts["faces"] == ORDINARY["faces"] and not evaluation.is_ordinary
    return f"{facts['perturbation']}{', faces found again' * again}"


def _auc(evaluation: Evaluation) -> float:
    videos = counted_videos(evaluation)
    return roc_auc(videos.label, videos.score)


def _read(folders: Sequence[Path], name: str) -> Iterator[dict[str, Any]]:
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder}: there is no such folder")
        for path in sorted(folder.rglob(name)):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise UsageError(f"{path} is damaged ({error})") from error
            if isinstance(content, dict):
                yield content


def _heat(rows: Sequence[dict[str, Any]]) -> Heat:
    made = Heat()
    for row in rows:
        auc = row["video_auc"]
        made.add(row["name"], row["level"], math.nan if auc is None else float(auc))
    return made
