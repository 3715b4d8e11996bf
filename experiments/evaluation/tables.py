"""Tables of a report: on the screen, as Markdown, as CSV."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

#: Column of a result to its heading; those that no row has are left out.
RESULT_COLUMNS = {
    "run": "run",
    "set": "set",
    "condition": "condition",
    "part": "part",
    "frame_auc": "frame AUC",
    "clip_auc": "clip AUC",
    "video_auc": "video AUC",
    "interval": "95 % interval",
    "video_eer": "EER",
    "video_ap": "AP",
    "video_balanced_accuracy": "bal. acc.",
    "video_tpr_at_fpr_0.01": "TPR at 1 %",
    "video_ece": "ECE",
    "video_cllr": "Cllr",
    "num_real": "real",
    "num_fake": "fake",
    "num_unscored": "unscored",
}
SEED_COLUMNS = {
    "experiment": "experiment",
    "set": "set",
    "condition": "condition",
    "part": "part",
    "recipe": "recipe",
    "num_runs": "runs",
    "video_auc_mean": "video AUC",
    "video_auc_sd": "sd",
    "video_eer_mean": "EER",
    "video_eer_sd": "sd of EER",
}
DIFFERENCE_COLUMNS = {
    "pair": "runs",
    "set": "set",
    "difference": "video AUC, first less second",
    "interval": "95 % interval",
    "p_bootstrap": "p, paired bootstrap",
    "p_delong": "p, DeLong",
    "num_videos": "videos",
    "num_groups": "groups",
    "num_left_out": "scored by one",
    "reason": "note",
}
#: Headings of texts, which stand on the left.
_TEXTS = ("run", "set", "condition", "part", "experiment", "recipe", "runs", "note")


def cells(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> list[list[str]]:
    """Turn rows into text, the headings first; a figure that does not exist is a dash.

    Args:
        rows: Values by column; `interval` is made of those that end in `_low` and `_high`.
        columns: Columns and their headings.
    """
    there = [name for name in columns if any(_text(row, name) not in ("", "-") for row in rows)]
    return [[columns[name] for name in there]] + [
        [_text(row, name) for name in there] for row in rows
    ]


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Write a table as Markdown.

    Args:
        table: Of `cells`.
    """
    head, *body = [[quoted(cell) for cell in row] for row in table]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def quoted(text: str) -> str:
    """Keep Markdown, and HTML in it, from acting on what names hold.

    Args:
        text: A cell or a line.
    """
    return text.replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|")


def screen(table: Sequence[Sequence[str]], title: str) -> Table:
    """Make a table for the screen.

    Args:
        table: Of `cells`.
        title: Above it.
    """
    from rich.markup import escape
    from rich.table import Table

    head, *body = table
    shown = Table(title=title)
    for heading in head:
        is_text = heading in _TEXTS
        shown.add_column(heading, justify="left" if is_text else "right")
    for row in body:
        shown.add_row(*map(escape, row))  # brackets of a name are letters
    return shown


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows with all their columns as CSV; a figure that does not exist is left empty.

    Args:
        rows: Values by column.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    clean = [{name: _known(row.get(name)) for name in names} for row in rows]
    return pl.DataFrame(clean, schema=names, infer_schema_length=None).write_csv()


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _text(row: Mapping[str, Any], name: str) -> str:
    if name == "interval":
        low = next((row[key] for key in row if key == "low" or key == "video_auc_low"), math.nan)
        high = next((row[key] for key in row if key == "high" or key == "video_auc_high"), math.nan)
        return "-" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
    value = row.get(name, "")
    if not isinstance(value, float):
        return " ".join(str(value).split())
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if name.startswith("num_") else f"{value:.4f}"
