"""`python -m experiments.compare RUN RUN ...`: runs side by side, on one page and as tables."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from callbacks.provenance import write_whole
from experiments.command_line import OneLineParser, exit_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.comparing.results import SetResults
    from experiments.comparing.runs import Run

USAGE = """\
Compare runs by their ledgers: no GPU, no network, no account. Writes index.html (one file),
results.csv and results.tex. The first run is the reference of the marks.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Compare runs.

    Args:
        argv: Arguments after the program's name; None takes them from the process.

    Returns:
        Exit code: 0 done, 2 a mistake that the user can mend.
    """
    return exit_code(lambda: _compare(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m experiments.compare", description=USAGE)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--out", type=Path, help="folder to write (reports/<first>-and-<n>)")
    parser.add_argument("--title", help="heading of the page")
    parser.add_argument(
        "--store", type=Path, action="append", default=[],
        help="prepared store with the videos, for pictures; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--stress", type=Path, action="append", default=[], metavar="FOLDER",
        help="what make robustness and make confounds wrote; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--wandb", action="store_true", help="put the same panels into a W&B workspace and report"
    )
    return parser


def _compare(typed: argparse.Namespace) -> int:
    # Imported here: help and mistakes answer at once.
    from experiments.comparing.matrix import matrices
    from experiments.comparing.page import PageOptions, page
    from experiments.comparing.results import measure
    from experiments.comparing.runs import read_runs
    from experiments.comparing.stress import confounds, robustness
    from experiments.comparing.tables import write_csv, write_latex
    from experiments.comparing.warnings import warnings

    runs = read_runs(typed.runs)
    results = measure(runs)
    folder = typed.out or Path("reports") / _folder_name(runs)
    options = PageOptions(
        title=typed.title or ("Comparison of runs" if len(runs) > 1 else runs[0].name),
        stores=tuple(typed.store),
        warnings=(*confounds(typed.stress), *warnings(runs, results)),
        extra={"matrix": matrices(runs), "robustness": robustness(runs, typed.stress)},
    )
    path = folder / "index.html"
    write_whole(path, page(runs, results, path, options))
    write_csv(folder / "results.csv", runs, results)
    write_latex(folder / "results.tex", runs, results)
    _tell(folder, results)
    if typed.wandb:
        from experiments.comparing.workspace import publish

        for line in publish(runs, options.title):
            sys.stdout.write(f"{line}\n")
    return 0


def _folder_name(runs: Sequence[Run]) -> str:
    first = runs[0].name.replace("/", "-")
    return first if len(runs) == 1 else f"{first}-and-{len(runs) - 1}-more"


def _tell(folder: Path, results: Sequence[SetResults]) -> None:
    for result in results:
        figures = ", ".join(f"{run} {cell.auc:.4f}" for run, cell in result.cells.items())
        sys.stdout.write(f"{result.name}: {figures}\n")
    sys.stdout.write(f"page:   {folder / 'index.html'}\n")
    sys.stdout.write(f"tables: {folder / 'results.csv'}, {folder / 'results.tex'}\n")


if __name__ == "__main__":
    sys.exit(main())
