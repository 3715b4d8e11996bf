"""The page: one HTML file that needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from callbacks.provenance import code_version
from experiments.anchors import read_anchors, shown_beside
from experiments.comparing.cost import cost_of
from experiments.comparing.differences import differences
from experiments.comparing.drawing import DASHES, Album, Pen
from experiments.comparing.plots import (
    cost_figure,
    curve_figure,
    histogram_figure,
    learning_figure,
)
from experiments.comparing.results import FIGURES, SIGNIFICANT, by_method, hardest, seed_spread
from experiments.comparing.thumbnails import link_to, pictures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.comparing.results import Hard, SetResults
    from experiments.comparing.runs import Run

#: Sections: id, name, and what must not be empty for it to be there.
_SECTIONS = (
    ("results", "Results", ""),
    ("cross-auc", "Cross-AUC", "matrix"),
    ("curves", "Curves", ""),
    ("methods", "By manipulation", "methods"),
    ("robustness", "Robustness", "robustness"),
    ("learning", "Learning", "learning"),
    ("cost", "Cost", ""),
    ("hardest", "Hardest videos", "hard"),
    ("settings", "Settings", ""),
    ("published", "Published", "anchors"),
    ("sources", "Runs and ledgers", ""),
)


@dataclass(frozen=True)
class PageOptions:
    """What a page shows besides its runs.

    Attributes:
        title: Its heading.
        stores: Prepared stores that have pictures of the videos.
        extra: Parts made elsewhere, by their name in the template: `matrix`, `robustness`.
        warnings: Lines for the top.
    """

    title: str
    stores: tuple[Path, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def page(
    runs: Sequence[Run], results: Sequence[SetResults], path: Path, options: PageOptions
) -> str:
    """Write a page.

    Args:
        runs: The first one is the reference.
        results: Their figures.
        path: Where the file will lie; links are seen from there.
        options: What it shows besides.

    Returns:
        HTML.
    """
    environment = Environment(
        loader=PackageLoader("experiments.comparing"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    content = _content(runs, results, path, options)
    shown = [(key, name) for key, name, needed in _SECTIONS if not needed or content[needed]]
    return environment.get_template("page.html.j2").render(**content, sections=shown)


def _content(
    runs: Sequence[Run], results: Sequence[SetResults], path: Path, options: PageOptions
) -> dict[str, Any]:
    pens = {run.name: Pen(number) for number, run in enumerate(runs)}
    costs = {run.name: cost_of(run) for run in runs}
    hard = hardest(results)
    album = Album()
    return {
        "title": options.title,
        "built": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "code": code_version(),
        "runs": runs,
        "results": results,
        "pens": pens,
        "dashes": {name: _dash(pen) for name, pen in pens.items()},
        "significant": SIGNIFICANT,
        "sizes": {result.name: _size(result) for result in results},
        "best": {result.name: _best(result) for result in results},
        "figures": _known_figures(results),
        "seeds": seed_spread(runs, results),
        "paired": [(r.name, run, c) for r in results for run, c in r.cells.items() if c.versus],
        "drawings": [
            (r.name, curve_figure(album, r, pens), histogram_figure(album, r)) for r in results
        ],
        "methods": by_method(results),
        "learning": learning_figure(album, runs, pens),
        "costs": costs,
        "cost_plot": cost_figure(album, results[0], costs, pens),
        "hard": _grouped(hard),
        "pictures": pictures(hard, runs, options.stores, path),
        "settings": differences(runs),
        "anchors": shown_beside(read_anchors(), _datasets(results)),
        "links": {run.name: _links(run, path) for run in runs},
        "warnings": options.warnings,
        "matrix": {},
        "robustness": {},
        **options.extra,
    }


def _dash(pen: Pen) -> str:
    style = DASHES[pen.number % len(DASHES)]
    return "none" if style == "-" else " ".join(f"{3 * part:g}" for part in style[1])


def _size(result: SetResults) -> str:
    """Count the videos of a set; runs that were tested on other ones show."""
    counts = [cell.evaluation.videos.height for cell in result.cells.values()]
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _best(result: SetResults) -> list[str]:
    known = {run: cell.auc for run, cell in result.cells.items() if not np.isnan(cell.auc)}
    highest = max(known.values(), default=0.0)
    return [run for run, auc in known.items() if auc == highest and len(known) > 1]


def _known_figures(results: Sequence[SetResults]) -> list[str]:
    found = {name for r in results for cell in r.cells.values() for name in cell.figures}
    return [name for name in FIGURES if name in found]


def _grouped(hard: Sequence[Hard]) -> dict[str, list[Hard]]:
    groups: dict[str, list[Hard]] = {}
    for one in hard:
        groups.setdefault(one.set_name, []).append(one)
    return groups


def _datasets(results: Sequence[SetResults]) -> set[str]:
    """Name the sets, and the data sets that their videos are of."""
    names = {result.name for result in results}
    for result in results:
        cell = next(iter(result.cells.values()))
        names |= set(cell.evaluation.videos.filter(pl.col("label") == 1)["dataset"])
    return names


def _links(run: Run, path: Path) -> dict[str, str]:
    here = path.resolve().parent
    return {name: link_to(ledger.with_suffix(".csv"), here) for name, ledger in run.ledgers.items()}
