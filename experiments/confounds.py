"""`python -m experiments.confounds --root VIDEOS --out FOLDER [--run DIR]`: what gives fakes away?

Measures how well fakes are told by what is no forgery: by what their files say of themselves, and,
with a run, by pictures without faces; and how a run does where both classes are made alike.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command_line import OneLineParser
from experiments.errors import UsageError
from experiments.robustness import (
    add_common_options,
    clean_store,
    progress,
    say_failures,
    score_all,
)
from experiments.run import fail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datamodules.schema import VideoRecord
    from experiments.stress.metadata import Baseline, Table

#: A confound that alone reaches more than this is warned of.
WARN_ABOVE = 0.6
#: Conditions under which a detector sees no forgery, so that skill there is a shortcut.
_BLIND = ("blank_face",)


def main(argv: list[str] | None = None) -> int:
    """Measure confounds.

    Args:
        argv: Arguments after the program's name; None takes them from the process.

    Returns:
        Exit code: 0 done, warnings or not; 1 if a video could not be changed; 2 a mistake that the
        user can mend, said in one line; 130 interrupted.
    """
    from callbacks.ledger import LedgerError
    from datamodules.errors import DataError
    from weights.errors import WeightsError

    try:
        return _measure(_parser().parse_args(argv))
    except (UsageError, DataError, WeightsError, LedgerError, OSError) as error:
        return fail(error)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run the same command again to go on from here\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m experiments.confounds",
        description="Measure how well fakes are told by what is no forgery.",
        epilog="OUT/confounds.md and confounds.json hold the figures and the warnings.",
    )
    parser.add_argument(
        "--root", required=True, metavar="VIDEOS", help="raw videos, or a prepared store"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for the report")
    parser.add_argument("--run", type=Path, metavar="DIR", help="runs/<run>; needs raw videos")
    add_common_options(parser)
    return parser


def _measure(arguments: argparse.Namespace) -> int:
    from datamodules.atomic import write_text_atomically
    from experiments.stress.metadata import baselines

    table = _table(arguments)
    rows = baselines(table)
    failures: dict[str, str] = {}
    if arguments.run is not None:
        conditions, failures = _conditions(arguments)
        rows += conditions
    warnings = _warnings(rows)
    counts = {split: int((table.split == split).sum()) for split in ("train", "test")}
    text = _markdown(rows, warnings, counts)
    write_text_atomically(arguments.out / "confounds.md", text)
    write_text_atomically(arguments.out / "confounds.json", _json(rows, warnings, arguments))
    sys.stdout.write(f"{text}\nReport: {arguments.out}\n")
    say_failures(failures)
    return int(bool(failures))


def _table(arguments: argparse.Namespace) -> Table:
    from datamodules.datasets.adapter import LayoutOptions
    from datamodules.datasets.layouts import read_layout
    from datamodules.storage.root import open_root
    from datamodules.store.prepared import MANIFEST_NAME, PreparedStore
    from experiments.stress.metadata import file_table, store_table

    root = open_root(arguments.root)
    if root.size(MANIFEST_NAME) >= 0:
        if arguments.run is not None:
            raise UsageError(
                f"{arguments.root} is a prepared store; with --run give the raw videos as --root, "
                "and the store as --prepared"
            )
        store = PreparedStore(arguments.root)
        return store_table(store.records, _face_sides(store, store.records))
    source = read_layout(arguments.layout, root, LayoutOptions())
    there = [record for record in source.records if root.size(record.path) >= 0]
    with progress() as tell:
        return file_table(root, there, lambda done, total: tell("reading files", done, total))


def _face_sides(store: object, records: Sequence[VideoRecord]) -> list[float]:
    from datamodules.store.prepared import PreparedStore

    assert isinstance(store, PreparedStore)
    sides = []
    for record in records:
        tracks = [store.reader(path).figures for path in record.tracks]
        sides.append(max((t.get("face_px", float("nan")) for t in tracks), default=float("nan")))
    return sides


def _conditions(arguments: argparse.Namespace) -> tuple[list[Baseline], dict[str, str]]:
    """Score the run under all controls."""
    from datamodules.storage.root import open_root
    from datamodules.store.prepared import PreparedStore
    from experiments.stress.controls import controls
    from experiments.stress.metadata import Baseline
    from experiments.stress.table import condition_row

    raw = open_root(arguments.root)
    clean = clean_store(arguments, raw)
    store = PreparedStore(clean)
    tested = [record for record in store.records if record.split == "test"]
    wanted = controls(_face_sides(store, tested))
    _, ledgers, failures = score_all(arguments, raw, clean, wanted)
    rows = []
    for name in ("clean", *(p.key for p in wanted)):
        row = condition_row(name, 0, ledgers[name], ledgers["clean"])
        rows.append(Baseline(name, "condition", row.video_auc, row.low, row.high, row.videos))
    return rows, failures


def _warns(row: Baseline) -> bool:
    return row.auc > WARN_ABOVE and (row.kind != "condition" or row.name in _BLIND)


def _warnings(rows: Sequence[Baseline]) -> list[str]:
    """Say what alone tells fakes, one line for all single file properties together."""
    found = [row for row in rows if _warns(row)]
    alone = [f"{row.name} ({row.auc:.3f})" for row in found if row.kind == "feature"]
    lines = [f"single file properties tell fakes: {', '.join(alone)}"] if alone else []
    for row in found:
        if row.kind != "feature":
            model = f"a {row.name} of file properties alone tells"
            what = model if row.kind == "model" else "the run tells, without seeing faces,"
            lines.append(f"{what} fakes, AUC {row.auc:.3f} ({row.low:.3f} - {row.high:.3f})")
    return lines


def _markdown(rows: Sequence[Baseline], warnings: Sequence[str], counts: dict[str, int]) -> str:
    from experiments.stress.controls import MEANINGS

    lines = ["# Confounds", "", *(f"**Warning:** {text}." for text in warnings)]
    if warnings:
        lines += ["", "A score on these videos is no proof of skill by itself.", ""]
    elif rows:
        lines += [f"No confound alone is above {WARN_ABOVE}.", ""]
    else:
        lines += ["Train and test need videos of both classes: nothing could be measured.", ""]
    lines += ["| what | kind | test video AUC | 95 % interval | meaning |", "|---|---|---|---|---|"]
    for row in rows:
        figure = "-" if row.auc != row.auc else f"{row.auc:.3f}"
        known = row.low == row.low
        interval = f"{row.low:.3f} - {row.high:.3f}" if known else "-"
        meaning = MEANINGS.get(row.name, "" if row.kind == "condition" else "fitted on train")
        lines.append(f"| {row.name} | {row.kind} | {figure} | {interval} | {meaning} |")
    told = ", ".join(f"{count} {split}" for split, count in counts.items())
    lines += ["", f"Videos: {told}. Intervals by the bootstrap over identity groups."]
    return "\n".join(lines) + "\n"


def _json(rows: Sequence[Baseline], warnings: Sequence[str], arguments: argparse.Namespace) -> str:
    known = [
        {name: None if value != value else value for name, value in row._asdict().items()}
        | {"warning": _warns(row)}
        for row in rows
    ]
    run = arguments.run.resolve().name if arguments.run else None
    content = {"root": str(arguments.root), "run": run, "warn_above": WARN_ABOVE}
    content |= {"warnings": list(warnings), "rows": known}
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(main())
