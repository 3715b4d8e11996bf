"""`python -m experiments.calibrate --run runs/<run>`: fit an operating point on validation.

Reads ledgers only: no torch, no GPU.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from experiments.command_line import OneLineParser, exit_code
from experiments.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from experiments.evaluation.ledgers import Evaluation
    from experiments.evaluation.operating_point import OperatingPoint

Value = TypeVar("Value")

_EPILOG = """\
Writes operating_point.json beside the checkpoint; `make predict` then calls videos real, fake, or
neither. The ledger of the validation set is written by
  python -m experiments.run validate --run runs/<run>
and found in the run by itself. Test ledgers are refused for fitting; with --transfer they tell how
the calls do elsewhere.
"""
#: Columns of the table.
_COLUMNS = {
    "false_positive_rate": "reals accused",
    "true_positive_rate": "fakes found",
    "balanced_accuracy": "balanced acc.",
    "abstained": "no call",
    "decided_accuracy": "bal. acc. of calls",
    "num_videos": "videos",
}


def main(argv: list[str] | None = None) -> int:
    """Fit an operating point.

    Args:
        argv: Arguments after the program's name; None takes them from the process.

    Returns:
        Exit code: 0 done, 2 a mistake that the user can mend, said in one line.
    """
    return exit_code(lambda: _calibrate(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    from experiments.evaluation.operating_point import CALIBRATIONS, parse_criterion

    parser = OneLineParser(
        prog="python -m experiments.calibrate",
        description="Fit threshold and calibration of a run on its validation set.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="runs/<run>")
    parser.add_argument(
        "--ledger", type=Path, metavar="FILE", help="of the validation set (the run's latest)"
    )
    parser.add_argument(
        "--at",
        type=_told(parse_criterion),
        default="eer",
        metavar="WHERE",
        help="threshold at eer, balanced_accuracy, or fpr=0.01 (eer)",
    )
    parser.add_argument(
        "--calibration", choices=CALIBRATIONS, default="temperature", help="(temperature)"
    )
    parser.add_argument(
        "--abstain",
        type=_told(_share),
        default=0.0,
        metavar="SHARE",
        help="of the validation videos, nearest to the threshold, that get no call (0)",
    )
    parser.add_argument(
        "--transfer", type=Path, nargs="+", default=[], metavar="FILE", help="test ledgers to try"
    )
    return parser


def _told(read: Callable[[str], Value]) -> Callable[[str], Value]:
    """Let argparse pass on what a reader says to a mistake."""

    def type_of(text: str) -> Value:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return type_of


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise ValueError(f"takes a share from 0 to below 1, not '{text}'")
    return value


def _calibrate(arguments: argparse.Namespace) -> int:
    from callbacks.provenance import digest
    from experiments.evaluation.ledgers import read_evaluations
    from experiments.evaluation.operating_point import (
        FILE_NAME,
        behaviour,
        check_disjoint,
        fit_operating_point,
        write_operating_point,
    )

    checkpoint = _checkpoint(arguments.run)
    ledger = arguments.ledger or _latest_ledger(arguments.run)
    fitted = _of_checkpoint(read_evaluations([ledger]), digest(checkpoint), ledger)
    point = fit_operating_point(
        fitted, arguments.at, arguments.calibration, abstain=arguments.abstain
    )
    point.fitted_on["ledger"] = os.path.relpath(ledger, arguments.run)
    point.fitted_on["ledger_digest"] = digest(ledger)
    found = {f"{fitted.name} (fitted on)": behaviour(point, fitted)}
    for other in read_evaluations(arguments.transfer):
        check_disjoint(fitted, other)
        found[other.name] = behaviour(point, other)
    path = checkpoint.with_name(FILE_NAME)
    write_operating_point(path, point, behaviour=_without_nan(found))
    _say(point, found, path)
    return 0


def _checkpoint(run: Path) -> Path:
    for name in ("best.ckpt", "last.ckpt"):
        path = run / "checkpoints" / name
        if path.is_file():
            return path
    raise UsageError(f"{run} is no run folder with a checkpoint; `make train` writes one")


def _latest_ledger(run: Path) -> Path:
    found = sorted(run.glob("validate/*/scores/val.parquet"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UsageError(
            f"{run} has no ledger of its validation set; "
            f"type: python -m experiments.run validate --run {run}"
        )
    return found[-1]


def _of_checkpoint(found: list[Evaluation], checkpoint: str, ledger: Path) -> Evaluation:
    for evaluation in found:
        if evaluation.facts["checkpoint"] == checkpoint:
            return evaluation
    raise UsageError(
        f"{ledger} is of another checkpoint than this run's; "
        "type: python -m experiments.run validate --run <run>"
    )


def _without_nan(found: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    # JSON has no NaN: a figure that does not exist is null.
    return {
        name: {key: None if math.isnan(value) else value for key, value in row.items()}
        for name, row in found.items()
    }


def _say(point: OperatingPoint, found: dict[str, dict[str, float]], path: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"Calls at {point.criterion}, fitted on validation")
    table.add_column("set")
    for heading in _COLUMNS.values():
        table.add_column(heading, justify="right")
    for name, row in found.items():
        cells = [
            "-" if math.isnan(row[key]) else f"{row[key]:.0f}" if key == "num_videos"
            else f"{row[key]:.4f}"
            for key in _COLUMNS
        ]  # fmt: skip
        table.add_row(escape(name), *cells)
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120)
    console.print(table)
    band = f"{point.abstain_low:.4f} to {point.abstain_high:.4f}"
    lines = [
        f"calibration: {point.calibration}, slope {point.slope:.4f}, offset {point.offset:.4f}",
        f"threshold:   {point.threshold:.4f} of the calibrated score",
        f"no call:     {band if point.abstain_low < point.abstain_high else 'never'}",
        f"written:     {path}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
