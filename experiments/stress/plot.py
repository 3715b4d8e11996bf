"""Plot AUC against severity, one panel for each perturbation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from datamodules.atomic import atomic_open
from experiments.stress.table import by_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from experiments.stress.table import ConditionRow

#: Panels side by side. [ours]
_COLUMNS = 4
#: A blue that colour-blind readers tell from grey (Okabe and Ito, 2008).
_COLOUR = "#0072B2"


def draw_severity(folder: Path, rows: Sequence[ConditionRow], title: str) -> list[Path]:
    """Draw `robustness.png` and `robustness.svg`; bands are 95 % intervals.

    Args:
        folder: Where they go.
        rows: Of one run; the clean one is level 0 of every panel.
        title: Names the run.

    Returns:
        The files.
    """
    table = by_name(rows)
    clean = next((row for row in rows if not row.level), None)
    columns = min(_COLUMNS, max(1, len(table)))
    lines = max(1, math.ceil(len(table) / columns))
    figure = Figure(figsize=(2.7 * columns, 2.3 * lines + 0.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat
    for axes, (name, found) in zip(panels, table.items(), strict=False):
        _draw_panel(axes, name, found, clean)
    axes_of_all = figure.axes
    # The panels share their axis; an AUC below chance must not fall out of it.
    axes_of_all[0].set_ylim(min(0.4, *_finite(rows)) - 0.02, 1.02)
    for axes in axes_of_all[len(table) :]:
        axes.set_visible(False)
    # No mathematics in a title: the name of a run may hold dollar signs.
    figure.suptitle(title, fontsize=11, parse_math=False)
    figure.supxlabel("severity (0 is clean)", fontsize=9)
    figure.supylabel("video AUC", fontsize=9)
    files = [folder / f"robustness.{kind}" for kind in ("png", "svg")]
    for path in files:
        with atomic_open(path) as file:
            figure.savefig(file, format=path.suffix[1:])
    return files


def _draw_panel(
    axes: Axes, name: str, found: Mapping[int, ConditionRow], clean: ConditionRow | None
) -> None:
    points = {0: clean, **found} if clean else dict(found)
    levels = sorted(points)
    known = [points[level] for level in levels]
    axes.plot(levels, [row.video_auc for row in known], "o-", color=_COLOUR, markersize=3)
    axes.fill_between(
        levels, [r.low for r in known], [r.high for r in known], color=_COLOUR, alpha=0.2, lw=0
    )
    axes.axhline(0.5, color="grey", lw=0.8, ls=":")
    axes.set_title(name.replace("_", " "), fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8, labelbottom=True)
    axes.grid(alpha=0.3)


def _finite(rows: Sequence[ConditionRow]) -> list[float]:
    values = [value for row in rows for value in (row.low, row.video_auc)]
    return [value for value in values if math.isfinite(value)] or [0.4]
