"""AUC under each condition, computed from the ledgers alone: rows, CSV, Markdown and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import defaultdict
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from experiments.evaluation.comparison import compare
from experiments.evaluation.figures import counted_videos, with_policy
from experiments.evaluation.intervals import video_intervals
from experiments.evaluation.ledgers import read_evaluations
from lightning_modules.metrics import roc_auc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from datamodules.perturbations.table import Perturbation
    from experiments.evaluation.figures import NoFacePolicy


@dataclass(frozen=True)
class ConditionRow:
    """How a run does under one condition; NaN where there is no figure.

    Attributes:
        name: Of the perturbation or control, `clean` without any.
        level: 1 to 5, 0 where there are none.
        videos: Videos that figures count.
        unscored: Videos without a score, counted or not.
        video_auc: Area under the ROC curve of videos.
        low: Lower end of its 95 % interval, by the bootstrap over identity groups.
        high: Upper end.
        clip_auc: Area under the ROC curve of clips.
        change: Video AUC less that of the clean videos, on those counted in both.
        change_low: Lower end of its 95 % interval, by the paired bootstrap over identity groups.
        change_high: Upper end.
    """

    name: str
    level: int
    videos: int
    unscored: int
    video_auc: float
    low: float
    high: float
    clip_auc: float
    change: float
    change_low: float
    change_high: float


def condition_row(
    name: str, level: int, ledger: Path, clean: Path, policy: NoFacePolicy = "excluded"
) -> ConditionRow:
    """Measure one ledger.

    Args:
        name: Of the condition.
        level: Of the condition.
        ledger: The Parquet file of its test.
        clean: That of the test on the unchanged videos.
        policy: What videos without a score count as.

    Raises:
        LedgerError: If one cannot be read.
    """
    whole = read_evaluations([ledger])[0]
    unscored = int(np.isnan(whole.score).sum())
    whole = with_policy(whole, policy)
    counted = np.isfinite(whole.score)
    change = (math.nan, math.nan, math.nan)
    if counted.any():
        change = compare(whole, with_policy(read_evaluations([clean])[0], policy))[:3]
    kept = whole.select(counted)
    low, high = video_intervals(counted_videos(whole)).auc
    return ConditionRow(
        name=name,
        level=level,
        videos=int(counted.sum()),
        unscored=unscored,
        video_auc=roc_auc(kept.label, kept.score),
        low=low,
        high=high,
        clip_auc=roc_auc(kept.label[kept.clip_video], kept.clip_logit),
        change=change[0],
        change_low=change[1],
        change_high=change[2],
    )


def by_name(rows: Sequence[ConditionRow]) -> dict[str, dict[int, ConditionRow]]:
    """Sort rows by perturbation and level; the clean one is left out.

    Args:
        rows: Of one run.
    """
    found: dict[str, dict[int, ConditionRow]] = defaultdict(dict)
    for row in rows:
        if row.level:
            found[row.name][row.level] = row
    return dict(found)


def mean_auc(rows: Sequence[ConditionRow]) -> float:
    """Average the video AUC; NaN if one is, or there is none.

    Args:
        rows: Any.
    """
    return fmean(row.video_auc for row in rows) if rows else math.nan


def as_csv(rows: Sequence[ConditionRow]) -> str:
    """Write rows as CSV; figures that do not exist stay empty.

    Args:
        rows: In the order to show.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(ConditionRow))
    for row in rows:
        writer.writerow(["" if value != value else value for value in asdict(row).values()])
    return text.getvalue()


def as_json(
    rows: Sequence[ConditionRow],
    perturbations: Sequence[Perturbation],
    facts: Mapping[str, object],
) -> str:
    """Write rows with what they were made of, for programs.

    Args:
        rows: In the order to show.
        perturbations: Their parameters.
        facts: Run, checkpoint and so on.
    """
    known = [
        {name: None if value != value else value for name, value in asdict(row).items()}
        for row in rows
    ]
    parameters = {p.key: p.parameters() for p in perturbations}
    content = {**facts, "rows": known, "parameters": parameters}
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def as_markdown(
    rows: Sequence[ConditionRow], heading: str, again: bool, policy: NoFacePolicy = "excluded"
) -> str:
    """Write the table of perturbations by levels, and what the figures are.

    Args:
        rows: Of one run.
        heading: Names the run.
        again: Whether faces were searched again in the perturbed videos.
        policy: What videos without a score count as.
    """
    table = by_name(rows)
    levels = sorted({level for found in table.values() for level in found})
    lines = [
        f"# {heading}",
        "",
        "Video AUC, 95 % interval in brackets; * where it differs from that",
    ]
    lines.append("of the clean videos, by the interval of the paired difference. Faces are")
    lines += ["those found in the perturbed videos." if again else "those of the clean ones.", ""]
    lines.append(f"| perturbation | {' | '.join(f'level {n}' for n in levels)} | mean |")
    lines.append(f"|---|{'---|' * (len(levels) + 1)}")
    for name, found in table.items():
        cells = [_cell(found[n]) if n in found else "-" for n in levels]
        lines.append(f"| {name} | {' | '.join(cells)} | {mean_auc(list(found.values())):.3f} |")
    perturbed = [row for row in rows if row.level]
    lines += ["", f"Mean over all: {mean_auc(perturbed):.3f}."] if perturbed else []
    lines += [f"Clean: {_cell(row)}, {row.videos} videos." for row in rows if not row.level]
    lost = {f"{row.name} {row.level}": row.unscored for row in rows if row.unscored}
    if lost:
        told = ", ".join(f"{name} {count}" for name, count in lost.items())
        how = "counted in no figure" if policy == "excluded" else f"counted as {policy}"
        lines.append(f"Videos without a score, {how}: {told}.")
    return "\n".join(lines) + "\n"


def _cell(row: ConditionRow) -> str:
    if not row.videos:
        return "no score"
    if math.isnan(row.video_auc):
        return "no AUC (one class)"
    if math.isnan(row.low):
        return f"{row.video_auc:.3f}"
    mark = "*" if row.change_low > 0 or row.change_high < 0 else ""
    return f"{row.video_auc:.3f}{mark} ({row.low:.3f} - {row.high:.3f})"
