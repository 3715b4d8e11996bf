"""`python -m experiments.report LEDGER ...`: tables of scores, from ledgers alone.

No torch, no GPU, no network.
"""

from __future__ import annotations

import argparse
import math
import sys
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command_line import OneLineParser, exit_code

if TYPE_CHECKING:
    from experiments.evaluation.ledgers import Evaluation
    from experiments.evaluation.results import ReportOptions, Row

_EPILOG = """\
A ledger is scores/<set>.parquet of a run folder. Writes report.md and results.csv (every figure)
into --out. Copies of a ledger count once; runs that differ in their seed alone are averaged; runs
on one set are compared, each with each.
"""
#: Runs on one set up to which each is compared with each [ours].
_MAX_COMPARED = 6
_TOO_MANY = f"the first {_MAX_COMPARED} are compared; make compare holds all against one"
#: Fewest bootstrap draws that have a 2.5 and a 97.5 % quantile [ours].
_MIN_DRAWN = 40
_ABOUT = """\
Fake is positive. Scores are pooled from clips to videos by {rule}; accuracy is at threshold
{threshold:g}; a video without a score is {policy}. 95 % intervals are made of bootstrap draws of
identity groups, widened where groups are few or share people. ECE has {bins} bins of equal width.
Same-footage pairs are fakes and the real videos they were made of: there source, codec and size
tell nothing. `deepfakebench_video_auc` in results.csv is that suite's way of counting, for its
published tables alone.
"""
_POLICIES = {
    "excluded": "counted in no figure",
    "real": "counted as real (score 0)",
    "fake": "counted as fake (score 1)",
}


def main(argv: list[str] | None = None) -> int:
    """Write a report.

    Args:
        argv: Arguments after the program's name; None takes them from the process.

    Returns:
        Exit code: 0 done, 2 a mistake that the user can mend, said in one line.
    """
    return exit_code(lambda: _report(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    from experiments.evaluation.figures import POLICIES

    parser = OneLineParser(
        prog="python -m experiments.report",
        description="Tables of scores, from ledgers alone.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ledgers", type=Path, nargs="+", metavar="LEDGER", help="Parquet files")
    parser.add_argument(
        "--out", type=Path, default=Path("reports"), metavar="FOLDER", help="(reports)"
    )
    parser.add_argument(
        "--threshold", type=_share, default=0.5, help="a score that reaches it is called fake (0.5)"
    )
    parser.add_argument(
        "--no-face", choices=POLICIES, default="excluded", help="videos without a score (excluded)"
    )
    parser.add_argument(
        "--rule", type=_rule, help="clips to a video: mean, max or top_<k> (the method's own)"
    )
    parser.add_argument(
        "--resamples", type=_count, default=2000, metavar="N", help="of the bootstrap (2000)"
    )
    return parser


def _rule(text: str) -> object:
    from lightning_modules.pooling import from_key

    try:
        return from_key(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"scores are from 0 to 1, not '{text}'")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < _MIN_DRAWN:
        raise argparse.ArgumentTypeError(f"at least {_MIN_DRAWN} make an interval, not {text}")
    return value


def _report(arguments: argparse.Namespace) -> int:
    from callbacks.provenance import write_whole
    from experiments.evaluation.cautions import cautions
    from experiments.evaluation.ledgers import read_evaluations
    from experiments.evaluation.results import ReportOptions, result_rows, seed_rows
    from experiments.evaluation.tables import csv_text

    options = ReportOptions(
        arguments.threshold, arguments.no_face, arguments.rule, arguments.resamples
    )
    evaluations = read_evaluations(arguments.ledgers)
    rows = [row for evaluation in evaluations for row in result_rows(evaluation, options)]
    seeds = [row for row in seed_rows(rows) if row["num_runs"] > 1]
    gaps = _differences(evaluations, options)
    warnings = cautions(evaluations)
    write_whole(arguments.out / "results.csv", csv_text(rows))
    write_whole(arguments.out / "report.md", _text(rows, seeds, gaps, warnings, options))
    _show(rows, seeds, gaps, warnings)
    sys.stdout.write(f"report:  {arguments.out / 'report.md'}\n")
    sys.stdout.write(f"figures: {arguments.out / 'results.csv'}\n")
    return 0


def _differences(evaluations: list[Evaluation], options: ReportOptions) -> list[Row]:
    """Compare the runs on each set, each with each."""
    from callbacks.ledger import LedgerError
    from experiments.evaluation.comparison import compare

    pooled = [e if options.rule is None else e.pooled(options.rule) for e in evaluations]
    sets: dict[str, list[Evaluation]] = {}
    for evaluation in pooled:
        sets.setdefault(evaluation.set_name, []).append(evaluation)
    rows: list[Row] = []
    for name, members in sets.items():
        if len(members) > _MAX_COMPARED:
            rows.append({"pair": f"{len(members)} runs", "set": name, "reason": _TOO_MANY})
        for one, two in combinations(members[:_MAX_COMPARED], 2):
            pair = {"pair": f"{one.facts['run']} - {two.facts['run']}", "set": name}
            try:
                found = compare(one, two, options.num_resamples, options.seed)
            except LedgerError as error:  # sets of one name may be of different videos
                rows.append({**pair, "difference": math.nan, "reason": str(error)})
            else:
                rows.append({**pair, **found._asdict()})
    return rows


def _sections(rows: list[Row], seeds: list[Row], gaps: list[Row]) -> dict[str, list[list[str]]]:
    from experiments.evaluation.tables import (
        DIFFERENCE_COLUMNS,
        RESULT_COLUMNS,
        SEED_COLUMNS,
        cells,
    )

    found = {"Scores": cells(rows, RESULT_COLUMNS)}
    if seeds:
        found["Runs of one experiment"] = cells(seeds, SEED_COLUMNS)
    if gaps:
        found["Differences on the same videos"] = cells(gaps, DIFFERENCE_COLUMNS)
    return found


def _text(
    rows: list[Row], seeds: list[Row], gaps: list[Row], warnings: list[str], options: ReportOptions
) -> str:
    from experiments.evaluation.figures import NUM_BINS
    from experiments.evaluation.tables import markdown, quoted

    about = _ABOUT.format(
        rule=options.rule or "each method's own rule",
        threshold=options.threshold,
        policy=_POLICIES[options.policy],
        bins=NUM_BINS,
    )
    parts = ["# Scores", about]
    for title, table in _sections(rows, seeds, gaps).items():
        parts.append(f"## {title}\n\n{markdown(table)}\n")
    lines = _remarks(rows, warnings)
    if lines:
        parts.append(
            "## To be kept in mind\n\n" + "\n".join(f"- {quoted(line)}" for line in lines) + "\n"
        )
    return "\n".join(parts)


def _remarks(rows: list[Row], warnings: list[str]) -> list[str]:
    """Tell what was left out and why, and what limits the figures."""
    lines = []
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        name = ", ".join(filter(None, (f"{row['run']}: {row['set']}", row["condition"])))
        if row["reason"]:
            reasons.setdefault((name, row["reason"]), []).append(row["part"])
        if row["part"] == "all" and row["unscored"]:
            lines.append(f"{name}, all: videos without a score: {row['unscored']}")
    lines += [f"{name}, {', '.join(of)}: {reason}" for (name, reason), of in reasons.items()]
    return [" ".join(line.split()) for line in lines + warnings]


def _show(rows: list[Row], seeds: list[Row], gaps: list[Row], warnings: list[str]) -> None:
    from rich.console import Console

    from experiments.evaluation.tables import screen

    console: Any = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200)
    for title, table in _sections(rows, seeds, gaps).items():
        console.print(screen(table, title))
    for line in _remarks(rows, warnings):
        sys.stdout.write(f"note: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
