"""What a check found, for the screen, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datamodules.integrity.audit import Audit
    from datamodules.integrity.counts import Table
    from datamodules.integrity.findings import Finding

TEXT_NAME = "check.md"
JSON_NAME = "check.json"
#: Findings of one check that the screen shows; the report holds all. [ours]
_MAX_SHOWN = 10


def screen_lines(audit: Audit) -> list[str]:
    """Give the lines for the screen: counts, then one line for each finding.

    Args:
        audit: What was found.
    """
    lines = [f"{audit.num_videos} videos, {audit.num_tracks} tracks", ""]
    for table in audit.tables:
        lines += [*_columns(table), ""]
    shown: dict[tuple[str, str], int] = {}
    for finding in audit.findings:
        kind = (finding.level, finding.check)
        shown[kind] = shown.get(kind, 0) + 1
        if shown[kind] <= _MAX_SHOWN:
            lines.append(f"{finding.level.upper():8}{finding.check}: {finding.line}")
    for (level, check), count in shown.items():
        if count > _MAX_SHOWN:
            lines.append(f"{level.upper():8}{check}: {count - _MAX_SHOWN} more, see {TEXT_NAME}")
    return [*lines, verdict(audit)]


def verdict(audit: Audit) -> str:
    """Sum up in one line.

    Args:
        audit: What was found.
    """
    warnings = len(audit.findings) - audit.num_errors
    told = f"{audit.num_errors} error(s), {warnings} warning(s)"
    return (
        f"Not fit for use: {told}" if audit.num_errors else f"No error found, {warnings} warning(s)"
    )


def report_files(audit: Audit) -> dict[str, str]:
    """Give the two files of a report: name and text of each.

    Args:
        audit: What was found.
    """
    values = {**asdict(audit), "num_errors": audit.num_errors}
    text = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False)
    return {TEXT_NAME: _markdown(audit), JSON_NAME: f"{text}\n"}


def _markdown(audit: Audit) -> str:
    lines = ["# Check of the data", "", f"**{verdict(audit)}.**", ""]
    lines += [f"{audit.num_videos} videos, {audit.num_tracks} tracks. Checked:", ""]
    lines += [*(f"- {line}" for line in audit.checked), ""]
    for level, title in (("error", "Errors"), ("warning", "Warnings")):
        found = [finding for finding in audit.findings if finding.level == level]
        lines += [f"## {title}", "", *(_entry(finding) for finding in found)]
        lines += ["" if found else "None.\n"]
    lines += ["## Splits", ""]
    lines += [f"{audit.num_components} groups of videos hang together by identity, source,"]
    lines += [f"footage or file; {len(audit.leaks)} of them lie in several splits.", ""]
    for component in audit.leaks:
        count = sum(map(len, component.videos.values()))
        lines.append(f"- {count} videos:")
        for split, ids in component.videos.items():
            lines.append(f"    - {split}: {', '.join(f'`{name}`' for name in ids)}")
    for table in audit.tables:
        lines += ["", f"## {table.title}", "", *_table(table)]
    return "\n".join(lines) + "\n"


def _entry(finding: Finding) -> str:
    items = "".join(f"\n    - `{item}`" for item in finding.items)
    return f"- {finding.check}: {finding.message}{':' if items else ''}{items}"


def _table(table: Table) -> list[str]:
    rows = [f"| {name} | {' | '.join(map(str, counts))} |" for name, counts in table.rows]
    rule = "|---|" + "---:|" * (len(table.columns) - 1)
    return [f"| {' | '.join(table.columns)} |", rule, *rows]


def _columns(table: Table) -> list[str]:
    """Lay a table out for the screen."""
    first, *heads = table.columns
    width = max(len(name) for name in (first, *(name for name, _ in table.rows)))
    widths = [max(8, len(head) + 2) for head in heads]
    return [
        f"{name:{width}}" + "".join(f"{cell!s:>{w}}" for cell, w in zip(cells, widths, strict=True))
        for name, cells in [(first, tuple(heads)), *table.rows]
    ]
