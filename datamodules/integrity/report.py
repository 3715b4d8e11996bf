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
#: What to do about what a check finds.
REMEDIES = {
    "leak": "-> give all videos that hang together one split, or leave some out",
    "near-duplicate": "-> look at both: give them one group and split, or leave one out",
    "labels": "-> leave the file out, or under one label",
    "orphans": "-> list their videos again, or remove these tracks",
    "files": "-> make damaged tracks anew by `make data ... ARGS=--verify`; copy raw files again",
}
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
    for (level, check), found in _by_kind(audit).items():
        start = f"{level.upper():8}{check}: "
        lines += [f"{start}{finding.line}" for finding in found[:_MAX_SHOWN]]
        if len(found) > _MAX_SHOWN:
            lines.append(f"{start}{len(found) - _MAX_SHOWN} more, see {TEXT_NAME}")
        if check in REMEDIES:
            lines.append(f"{'':8}{REMEDIES[check]}")
    return [*lines, verdict(audit)]


def _by_kind(audit: Audit) -> dict[tuple[str, str], list[Finding]]:
    """Collect findings by level and check, in the order of the first of each."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in audit.findings:
        kinds.setdefault((finding.level, finding.check), []).append(finding)
    return kinds


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
        lines += [f"## {title}", ""]
        kinds = {check: found for (of, check), found in _by_kind(audit).items() if of == level}
        for check, found in kinds.items():
            remedy = REMEDIES.get(check, "").removeprefix("-> ")
            lines += [
                f"### {check} ({len(found)})",
                *(["", f"What to do: {remedy}."] * bool(remedy)),
            ]
            lines += ["", *(_entry(finding) for finding in found), ""]
        lines += [] if kinds else ["None.", ""]
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
    return f"- {finding.message}{':' if items else ''}{items}"


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
