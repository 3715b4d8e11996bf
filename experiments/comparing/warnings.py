"""What a reader of a comparison must mind."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        yield from _manifests(result)
        lacking = [run.name for run in runs if run.name not in result.cells]
        if lacking:
            yield f"{result.name}: not tested: {', '.join(lacking)}"
    unpaired = [result.name for result in results if not _has_pairs(result)]
    if unpaired:
        yield (
            f"{', '.join(unpaired)}: no fake has a real video of its own footage; a detector may "
            "tell sources apart, not forgeries"
        )
    codes = {str(one.facts["code"]) for run in runs for one in run.evaluations.values()}
    if len(codes) > 1:
        yield f"the runs were tested with {len(codes)} versions of the code"
    if any(code.endswith("-dirty") for code in codes):
        yield "some scores come from code that was in no commit (-dirty)"


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


def _manifests(result: SetResults) -> Iterator[str]:
    manifests = {str(cell.evaluation.facts["manifest"]) for cell in result.cells.values()}
    if len(manifests) > 1:
        yield (
            f"{result.name}: the runs were tested on {len(manifests)} lists of videos; marks "
            "compare the videos that two runs share, the table does not"
        )


def _has_pairs(result: SetResults) -> bool:
    evaluation = next(iter(result.cells.values())).evaluation
    return bool((evaluation.videos["paired_real"] != "").any())
