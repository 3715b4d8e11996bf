"""`python -m experiments.evaluate --run runs/<run>`: test a run again, or runs under a protocol."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.errors import UsageError
from experiments.run import fail
from experiments.run import main as run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.protocols.running import Job, Plan
    from experiments.protocols.schema import TestSet

USAGE = """\
usage: python -m experiments.evaluate --run RUN [RUN ...] [options]

Test the best checkpoint of a run again, on the run's own data or on --data/--root.
Writes scores and metrics into RUN/test/.

With --protocol or --datasets: test one run or several on sets of videos, each into
RUN/evaluations/<set>/. What is done with the same checkpoint, configuration and videos is not done
again. `make compare` puts the results side by side.

options:
  --protocol NAME    within, cross_dataset, leave_one_out, cross_manipulation, cross_compression,
                     cross_auc, or a YAML of your own
  --datasets NAMES   of the protocol only these sets; without a protocol any data sets by name
  --stores PLACES    prepared stores, folders of some, <data set>=<store>, or roots of
                     DeepfakeBench, which are prepared into data/deepfakebench (default: data)
Others are those of `python -m experiments.run test`.
"""
_LISTS = ("--run", "--datasets", "--stores")


def main(argv: list[str] | None = None) -> int:
    """Test a run again, or runs under a protocol.

    Args:
        argv: Arguments after the program's name; None takes them from the process.

    Returns:
        Exit code: 0 done, 2 a mistake that the user can mend.
    """
    words = sys.argv[1:] if argv is None else argv
    if "-h" in words or "--help" in words:
        sys.stdout.write(USAGE)
        return 0
    given, rest = _split(words)
    runs = given.get("--run", [])
    if not runs:
        sys.stderr.write("error: say which run: --run runs/<run>\n")
        return 2
    if "--protocol" not in given and "--datasets" not in given:
        if len(runs) > 1 or "--stores" in given:
            return fail(UsageError("several runs, and --stores, need --protocol or --datasets"))
        return run(["test", "--run", runs[0], *rest])
    from callbacks.ledger import LedgerError
    from datamodules.errors import DataError

    try:
        return _under_protocol([Path(name) for name in dict.fromkeys(runs)], given, rest)
    except (UsageError, DataError, LedgerError, OSError) as error:
        return fail(error)


def _split(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Take our options out of what goes on to the test; a list ends at the next option."""
    given: dict[str, list[str]] = {}
    rest: list[str] = []
    now: list[str] = rest
    for word in words:
        name, equals, value = word.partition("=")
        if name in (*_LISTS, "--protocol"):
            now = given.setdefault(name, [])
            now += value.split() if equals else []
        elif word.startswith("-"):
            now = rest
            rest.append(word)
        else:
            # An empty variable of make, or several names in one word, unless it is one path.
            one = now is rest or Path(word.partition("=")[2] or word).exists()
            now += [word] if one and word else word.split()
    return given, rest


def _under_protocol(runs: list[Path], given: dict[str, list[str]], rest: list[str]) -> int:
    from experiments.protocols.running import UNCHECKED, execute, plan
    from experiments.protocols.schema import named_sets, read_protocol
    from experiments.protocols.stores import find_stores

    names = given.get("--protocol", [])
    if len(names) > 1:
        raise UsageError(f"one protocol at a time, not {', '.join(names)}")
    asked = read_protocol(names[0]) if names else None
    protocol = named_sets(asked, tuple(given.get("--datasets", [])))
    made = plan(runs, protocol, find_stores(given.get("--stores", [])))
    for line in made.skipped:
        sys.stdout.write(f"left out: {line}\n")
    for folder in dict.fromkeys(job.run for job in made.jobs if job.overlap == UNCHECKED):
        sys.stderr.write(
            f"warning: {folder}: nobody can check that these sets share no video with what it was "
            "trained on: it does not remember its videos, and its store cannot be read; the "
            "results are marked as unchecked\n"
        )
    for number, job in enumerate(made.jobs, start=1):
        sys.stdout.write(f"[{number}/{len(made.jobs)}] {job.run} on {job.wanted.name}\n")
        sys.stdout.flush()
        if not execute(job, rest, run):
            sys.stdout.write("done before\n")
    return _tell(made, protocol.matrix)


def _tell(made: Plan, matrix: bool) -> int:
    by_run: dict[Path, list[Job]] = {}
    for job in made.jobs:
        by_run.setdefault(job.run, []).append(job)
    for run_folder, jobs in by_run.items():
        _tell_run(run_folder, jobs, matrix)
    if made.missing:
        sys.stderr.write(f"{_missing(made.missing)}\n")
    return 0 if made.jobs or made.skipped else 2


def _tell_run(folder: Path, jobs: Sequence[Job], matrix: bool) -> None:
    from callbacks.provenance import write_whole
    from experiments.comparing.matrix import as_csv, cross_auc
    from experiments.evaluation.figures import set_figures
    from experiments.evaluation.ledgers import read_evaluations

    found = {job.wanted.name: read_evaluations([job.ledger])[0] for job in jobs}
    for name, evaluation in found.items():
        values = set_figures(evaluation)
        auc, videos = values["video_auc"], int(values["num_videos"])
        sys.stdout.write(f"{folder}: {name}: video AUC {auc:.4f} ({videos} videos)\n")
    if matrix and len(found) > 1:
        path = folder / "evaluations" / "cross_auc.csv"
        write_whole(path, as_csv(cross_auc(found)))
        sys.stdout.write(f"{folder}: Cross-AUC matrix: {path}\n")


def _missing(sets: Sequence[TestSet]) -> str:
    names = ", ".join(one.name for one in sets)
    first = sets[0].source
    return (
        f"not tested: {names}: no prepared store has test videos of both classes; prepare them "
        f"(make data DATASET=<layout> ROOT=<videos> OUT=data/{first}) or say where they are "
        f"(STORES={first}=<prepared>)"
    )


if __name__ == "__main__":
    sys.exit(main())
