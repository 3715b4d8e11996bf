"""Robustness tables and confounds that were measured before, for the page."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from experiments.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from experiments.comparing.runs import Run


@dataclass
class Heat:
    """AUC by perturbation and level.

    Attributes:
        levels: Columns.
        rows: By perturbation, then by level.
    """

    levels: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, float]] = field(default_factory=dict)


def robustness(runs: Sequence[Run], folders: Sequence[Path]) -> dict[str, Heat]:
    """Read what `make robustness` found for the compared checkpoints.

    Args:
        runs: The compared runs.
        folders: Where it wrote, at any depth.

    Returns:
        By name of the run; of other checkpoints nothing.

    Raises:
        UsageError: If a file is damaged.
    """
    found: dict[str, Heat] = {}
    for content in _read(folders, "robustness.json"):
        for run in runs:
            checkpoints = {str(e.facts["checkpoint"]) for e in run.evaluations.values()}
            if content.get("checkpoint") in checkpoints:
                found[run.name] = _heat(content.get("rows", []))
    return found


def confounds(folders: Sequence[Path]) -> list[str]:
    """Read what `make confounds` warns of.

    Args:
        folders: Where it wrote, at any depth.

    Raises:
        UsageError: If a file is damaged.
    """
    lines = [w for content in _read(folders, "confounds.json") for w in content.get("warnings", [])]
    return [f"confound: {line}" for line in dict.fromkeys(map(str, lines))]


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
        # Without levels there is one column of its own.
        level = str(row["level"] or "-")
        auc = row["video_auc"]
        made.rows.setdefault(row["name"], {})[level] = math.nan if auc is None else float(auc)
    made.levels = sorted({level for row in made.rows.values() for level in row})
    return made
