"""What a reader of a comparison must mind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.evaluation.cautions import cautions
from experiments.protocols.running import is_unchecked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from experiments.comparing.results import SetResults
    from experiments.comparing.runs import Run


def warnings(runs: Sequence[Run], results: Sequence[SetResults]) -> Iterator[str]:
    """Say what limits the figures.

    Args:
        runs: All of them.
        results: Their figures.

    Yields:
        One line each.
    """
    for result in results:
        yield from (f"{result.name}: {note}" for note in result.notes)
        yield from _unscored(result)
        yield from _cautions(result)
        lacking = [run.name for run in runs if run.name not in result.cells]
        if lacking:
            yield f"{result.name}: not tested: {', '.join(lacking)}"
    unpaired = [result.name for result in results if not _has_pairs(result)]
    if unpaired:
        yield (
            f"{', '.join(unpaired)}: no fake has a real video of its own footage; a detector may "
            "tell sources apart, not forgeries"
        )
    for run in runs:
        unchecked = [name for name, ledger in run.ledgers.items() if is_unchecked(ledger)]
        if unchecked:
            yield (
                f"{', '.join(unchecked)}: nobody could check that {run.name} was not trained on "
                "these videos"
            )
    codes = {str(one.facts["code"]) for run in runs for one in run.evaluations.values()}
    if len(codes) > 1:
        yield f"the runs were tested with {len(codes)} versions of the code"


def _cautions(result: SetResults) -> Iterator[str]:
    """Say each caution once, with the runs that it is about unless it is about all."""
    of: dict[str, list[str]] = {}
    for run, cell in result.cells.items():
        for line in cautions([cell.evaluation]):
            of.setdefault(line.removeprefix(f"{cell.evaluation.name}: "), []).append(run)
    for text, runs in of.items():
        whom = "" if len(runs) == len(result.cells) else f", {', '.join(runs)}"
        yield f"{result.name}{whom}: {text}"
    if len({str(cell.evaluation.facts["manifest"]) for cell in result.cells.values()}) > 1:
        yield (
            f"{result.name}: the runs were tested on different lists of videos; marks compare the "
            "videos that two runs share, the table does not"
        )


def _unscored(result: SetResults) -> Iterator[str]:
    counts = {
        run: ", ".join(f"{count} {status}" for status, count in cell.unscored.items())
        for run, cell in result.cells.items()
        if cell.unscored
    }
    if counts and len(set(counts.values())) == 1 and len(counts) == len(result.cells):
        yield f"{result.name}: videos without a score, in no figure: {next(iter(counts.values()))}"
        return
    for run, text in counts.items():
        yield f"{result.name}, {run}: videos without a score, in no figure: {text}"


def _has_pairs(result: SetResults) -> bool:
    evaluation = next(iter(result.cells.values())).evaluation
    return bool((evaluation.videos["paired_real"] != "").any())
