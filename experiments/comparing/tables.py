"""The figures of a comparison as CSV and as a LaTeX table."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING

from callbacks.provenance import write_whole
from experiments.comparing.results import FIGURES, SIGNIFICANT
from lightning_modules.bootstrap import RESAMPLED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from experiments.comparing.results import Cell, SetResults
    from experiments.comparing.runs import Run

_ESCAPES = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
_MARKS = {"▲": r"$^{\uparrow}$", "▼": r"$^{\downarrow}$", "": ""}


def write_csv(path: Path, runs: Sequence[Run], results: Sequence[SetResults]) -> None:
    """Write one line for each run and set, all figures in full.

    Args:
        path: The file.
        runs: The first one is the reference.
        results: Their figures.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    versus = (
        "difference",
        "difference_low",
        "difference_high",
        "p_bootstrap",
        "p_holm",
        "p_delong",
    )
    writer.writerow([
        *("set", "run", "experiment", "seed", "num_videos", "num_unscored"), *FIGURES,
        *(f"video_{name}_{end}" for name in RESAMPLED for end in ("low", "high")),
        *("reference", *versus),
    ])  # fmt: skip
    for result in results:
        for run in runs:
            if run.name in result.cells:
                cell = result.cells[run.name]
                writer.writerow([
                    *(result.name, run.name, run.experiment, run.seed),
                    *(int(cell.figures[name]) for name in ("num_videos", "num_unscored")),
                    *(_number(cell.figures.get(name, math.nan)) for name in FIGURES),
                    *(_number(bound) for name in RESAMPLED for bound in cell.bounds[name]),
                    *(runs[0].name if cell.versus else "", *_versus(cell)),
                ])  # fmt: skip
    write_whole(path, text.getvalue())


def write_latex(path: Path, runs: Sequence[Run], results: Sequence[SetResults]) -> None:
    """Write a table of video AUCs with intervals, in percent, for the package booktabs.

    Args:
        path: The file.
        runs: The first one is the reference.
        results: Their figures.
    """
    head = " & ".join(["Set", *(_escape(run.name) for run in runs)])
    lines = [
        "% \\usepackage{booktabs}; video AUC in %, 95 % interval below,",
        f"% arrows: differs from {_comment(runs[0].name)} on the same videos, p < {SIGNIFICANT}",
        f"\\begin{{tabular}}{{l{'c' * len(runs)}}}",
        "\\toprule",
        f"{head} \\\\",
        "\\midrule",
    ]
    for result in results:
        cells = [result.cells.get(run.name) for run in runs]
        best = max((c.auc for c in cells if c and not math.isnan(c.auc)), default=math.nan)
        lines.append(f"{_escape(result.name)} & {' & '.join(_auc(c, best) for c in cells)} \\\\")
        lines.append(f" & {' & '.join(_interval(c) for c in cells)} \\\\")
    lines += ["\\bottomrule", "\\end{tabular}", ""]
    write_whole(path, "\n".join(lines))


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def _versus(cell: Cell) -> list[str]:
    found = cell.versus
    if found is None:
        return [""] * 6
    values = (found.difference, found.low, found.high, found.p_bootstrap, cell.p_value)
    return [_number(value) for value in (*values, found.p_delong)]


def _auc(cell: Cell | None, best: float) -> str:
    if cell is None or math.isnan(cell.auc):
        return "--"
    text = f"{100 * cell.auc:.2f}"
    bold = f"\\textbf{{{text}}}" if cell.auc == best else text
    return bold + _MARKS[cell.mark]


def _interval(cell: Cell | None) -> str:
    if cell is None or math.isnan(cell.low):
        return ""
    return f"{{\\scriptsize {100 * cell.low:.1f}--{100 * cell.high:.1f}}}"


def _escape(text: str) -> str:
    """Write a name so that LaTeX prints it; a first bracket would be an option of the last row."""
    escaped = "".join(_ESCAPES.get(char, char) for char in _comment(text))
    return f"{{{escaped}}}" if escaped.startswith(("[", "*")) else escaped


def _comment(text: str) -> str:
    return " ".join(text.split())
