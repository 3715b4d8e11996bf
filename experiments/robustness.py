"""`python -m experiments.robustness --run DIR --root VIDEOS --out FOLDER`: AUC against severity.

Perturbs the test videos before their faces are cropped, scores each perturbation and level by the
run's best checkpoint, and writes table and plot. Runs again do only what is missing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.perturbations.table import GROUPS, LEVELS, NAMES
from experiments.command_line import OneLineParser
from experiments.errors import UsageError
from experiments.run import fail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from datamodules.perturbations.table import Perturbation
    from datamodules.storage.root import DataRoot

    Tell = Callable[[str, int, int], None]

#: Failures named on the screen. [ours]
_MAX_NAMED = 5
_EPILOG = f"""\
perturbations: {", ".join(NAMES)}; groups: {", ".join(GROUPS)} (default seven, those of
DeeperForensics-1.0). OUT/clean holds the unchanged videos, OUT/stores the perturbed ones,
OUT/scores/<run> the ledgers, robustness.csv, .md, .json, .png and .svg; with --faces again, where a
video whose faces are not found has no score, OUT/stores-again and OUT/scores/<run>-again.
"""


def main(argv: list[str] | None = None) -> int:
    """Sweep perturbations and levels.

    Args:
        argv: Arguments after the program's name; None takes them from the process.

    Returns:
        Exit code: 0 done; 1 if a video could not be perturbed, which the next run tries again;
        2 a mistake that the user can mend, said in one line; 130 interrupted.
    """
    # Imported late: help and mistakes need neither network nor decoder.
    from callbacks.ledger import LedgerError
    from datamodules.errors import DataError
    from weights.errors import WeightsError

    try:
        return _sweep(_parser().parse_args(argv))
    except (UsageError, DataError, WeightsError, LedgerError, OSError) as error:
        return fail(error)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run the same command again to go on from here\n")
        return 130


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add what every sweep of a run over raw videos takes.

    Args:
        parser: Gets the options.
    """
    parser.add_argument("--prepared", type=Path, metavar="STORE", help="clean store of --root")
    parser.add_argument("--layout", default="folder", help="folders of --root (folder)")
    parser.add_argument("--backend", help="face backend (that of the run's data, or mesh)")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (0)")
    parser.add_argument("--workers", type=int, default=0, help="processes (one per core)")
    parser.add_argument("--gpus", choices=("0", "1"), help="0 scores on the CPU")
    parser.add_argument("test", nargs="*", metavar="-- ARG", help="further arguments of the test")


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m experiments.robustness",
        description="Score perturbed test videos: AUC against severity.",
        epilog=_EPILOG,
    )
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="runs/<run>")
    parser.add_argument("--root", required=True, metavar="VIDEOS", help="raw videos")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for everything")
    parser.add_argument("--perturbations", nargs="+", default=["seven"], metavar="NAME")
    parser.add_argument("--levels", nargs="+", type=int, default=list(LEVELS), metavar="N")
    parser.add_argument(
        "--faces",
        choices=("clean", "again"),
        default="clean",
        help="those of the unchanged videos, or searched again in the perturbed ones (clean)",
    )
    parser.add_argument(
        "--no-face",
        choices=("excluded", "real", "fake"),
        default="excluded",
        help="what videos without a score count as (excluded)",
    )
    parser.add_argument(
        "--drop-stores", action="store_true", help="remove each perturbed store once it is scored"
    )
    add_common_options(parser)
    return parser


def _sweep(arguments: argparse.Namespace) -> int:
    from datamodules.perturbations.table import chosen
    from datamodules.storage.root import open_root
    from experiments.stress.scoring import checkpoint_of

    perturbations = chosen(arguments.perturbations, arguments.levels)
    checkpoint_of(arguments.run)
    raw = open_root(arguments.root)
    clean = clean_store(arguments, raw)
    folder, ledgers, failures = score_all(arguments, raw, clean, perturbations)
    _report(arguments, folder, perturbations, ledgers)
    say_failures(failures)
    return int(bool(failures))


def clean_store(arguments: argparse.Namespace, raw: DataRoot) -> Path:
    """Give the clean store: that of `--prepared`, or one made of the test videos.

    Args:
        arguments: The command line.
        raw: Root of the raw videos.
    """
    from experiments.stress.clean import options_of, prepare_clean

    given: Path | None = arguments.prepared
    if given is not None:
        return given
    clean = Path(arguments.out) / "clean"
    options = options_of(arguments.run, arguments.backend)
    with progress() as tell:
        prepare_clean(
            *(raw, clean, options, arguments.layout, "test", num_workers(arguments)),
            lambda done, total, _: tell("preparing clean videos", done, total),
        )
    return clean


def score_all(
    arguments: argparse.Namespace,
    raw: DataRoot,
    clean: Path,
    perturbations: Sequence[Perturbation],
) -> tuple[Path, dict[str, Path], dict[str, str]]:
    """Perturb and score whatever is missing.

    Args:
        arguments: The command line.
        raw: Root of the raw videos.
        clean: Their prepared store.
        perturbations: What to do to them.

    Returns:
        The folder of the run's results; the ledger of `clean` and of each perturbation by key;
        videos that failed with the reason.

    Raises:
        DataError: If another process is scoring the run there.
    """
    from datamodules.storage.output import lock_or_refuse
    from experiments.stress.scoring import result_folder

    folder = result_folder(arguments.run, arguments.out)
    folder = folder.with_name(folder.name + _again(arguments))
    with lock_or_refuse(arguments.out / "locks" / folder.name, str(folder)):
        return folder, *_score_missing(arguments, raw, clean, perturbations, folder)


def _score_missing(
    arguments: argparse.Namespace,
    raw: DataRoot,
    clean: Path,
    perturbations: Sequence[Perturbation],
    folder: Path,
) -> tuple[dict[str, Path], dict[str, str]]:
    from experiments.stress.scoring import Scoring, is_scored, score_store

    words = ["--gpus", arguments.gpus] if arguments.gpus else ["--trainer.devices=1"]
    words += arguments.test
    stores = arguments.out / f"stores{_again(arguments)}"

    def scoring(key: str, store: Path, **condition: object) -> Scoring:
        return Scoring(arguments.run, store, folder / key, words, condition)

    todo = {
        p: scoring(p.key, stores / p.key, seed=arguments.seed, **p.parameters())
        for p in perturbations
    }
    drop = getattr(arguments, "drop_stores", False)
    left = [p for p in perturbations if not (drop and is_scored(todo[p]))]
    failures: dict[str, str] = {}
    with progress() as tell:
        ledgers = {"clean": score_store(scoring("clean", clean))}
        # Without keeping stores, one at a time needs the room of one.
        for group in [[p] for p in left] if drop else [left]:
            failures |= _make(arguments, raw, clean, stores, group, tell)
            for done, perturbation in enumerate(group):
                tell("scoring", done, len(group))
                score_store(todo[perturbation], ledgers["clean"])
                if drop:
                    shutil.rmtree(todo[perturbation].store)
            tell("scoring", len(group), len(group))
    return ledgers | {p.key: found.ledger for p, found in todo.items()}, failures


def _make(
    arguments: argparse.Namespace,
    raw: DataRoot,
    clean: Path,
    stores: Path,
    group: Sequence[Perturbation],
    tell: Tell,
) -> dict[str, str]:
    from datamodules.perturbations.stores import make_stores

    made = make_stores(
        *(raw, clean, stores, group),
        seed=arguments.seed,
        search=bool(_again(arguments)),
        num_workers=num_workers(arguments),
        tell=lambda done, total: tell("perturbing videos", done, total),
    )
    return made.failures


def _again(arguments: argparse.Namespace) -> str:
    """Give what names of folders end in where faces are searched again; empty elsewhere."""
    return "-again" * (getattr(arguments, "faces", "clean") == "again")


def num_workers(arguments: argparse.Namespace) -> int:
    """Tell how many processes work at once.

    Args:
        arguments: The command line.
    """
    from joblib import cpu_count

    return int(arguments.workers or cpu_count())


@contextmanager
def progress() -> Iterator[Tell]:
    """Show a bar for each kind of work on a terminal, a line now and then elsewhere.

    Yields:
        A function that is told the work, what of it is done and how much there is.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    # Bound now: a test that runs in between has its own standard error.
    console = Console(file=sys.stderr)
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining()]
    tasks = {}
    with Progress(
        *columns,
        console=console,
        disable=not console.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as bar:

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)
            # A log has no use for a bar: every tenth of the work is a line.
            tenth = done * 10 // max(1, total) > max(0, done - 1) * 10 // max(1, total)
            if not console.is_terminal and tenth:
                console.file.write(f"{what}: {done} of {total}\n")
                console.file.flush()

        yield tell


def say_failures(failures: dict[str, str]) -> None:
    """Name videos that failed on standard error, the first few of many.

    Args:
        failures: Reasons by perturbation and video.
    """
    named = list(failures.items())[:_MAX_NAMED]
    lines = [f"{len(failures)} failed, have no score, and are tried again by the next run:"]
    lines += [f"  {place}: {reason}" for place, reason in named]
    if failures:
        sys.stderr.write("\n".join(lines) + "\n")


def _report(
    arguments: argparse.Namespace,
    folder: Path,
    perturbations: Sequence[Perturbation],
    ledgers: dict[str, Path],
) -> None:
    """Write table and plot from the ledgers alone, and show the table."""
    from callbacks.provenance import digest
    from datamodules.atomic import write_text_atomically
    from experiments.stress.plot import draw_severity
    from experiments.stress.scoring import checkpoint_of
    from experiments.stress.table import as_csv, as_json, as_markdown, condition_row

    run = arguments.run
    name = run.resolve().name
    clean = ledgers["clean"]
    policy = arguments.no_face
    rows = [condition_row("clean", 0, clean, clean, policy)]
    rows += [condition_row(p.name, p.level, ledgers[p.key], clean, policy) for p in perturbations]
    facts = {"run": name, "checkpoint": digest(checkpoint_of(run)), "faces": arguments.faces}
    facts["no_face"] = policy
    again = arguments.faces == "again"
    table = as_markdown(rows, f"Robustness of {name}", again, policy)
    write_text_atomically(folder / "robustness.csv", as_csv(rows))
    write_text_atomically(folder / "robustness.json", as_json(rows, perturbations, facts))
    write_text_atomically(folder / "robustness.md", table)
    draw_severity(folder, rows, f"{name}, faces found again" if again else name)
    sys.stdout.write(f"{table}\nTable, plot and ledgers: {folder}\n")


if __name__ == "__main__":
    sys.exit(main())
