"""Check a prepared folder: `python -m datamodules.integrity --manifest <manifest.jsonl>`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_DESCRIPTION = """
Check a prepared folder before it is trained on: counts, damage, leaks between splits, and
near-duplicate videos in different splits; or write and compare data cards.
"""

#: From so many videos on a rate is told: that of fewer is the time that the start takes. [ours]
_MIN_RATED = 100


def main(argv: Sequence[str] | None = None) -> int:
    """Check a prepared folder, or write or compare data cards.

    Args:
        argv: Command line, without the program's name.

    Returns:
        0; 1 if the data have an error, or two cards differ; 2 after an error of the user's; 130
        if interrupted.
    """
    # Imported late: the help needs none of it.
    from datamodules.errors import DataError

    try:
        return _run(_parser().parse_args(argv))
    except DataError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return 130


class _Parser(argparse.ArgumentParser):
    """Mistakes become one line, as in the other programs."""

    def error(self, message: str) -> NoReturn:
        from datamodules.errors import DataError

        raise DataError(f"{message}; see python -m datamodules.integrity --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m datamodules.integrity", description=_DESCRIPTION)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--manifest", metavar="FILE", help="check the prepared folder around it")
    what.add_argument("--card", metavar="FOLDER", help="write the data card of a prepared folder")
    what.add_argument(
        "--compare", metavar=("A", "B"), nargs=2, help="two data cards, or their folders"
    )
    parser.add_argument("--raw", metavar="ROOT", help="compare the raw videos as well")
    parser.add_argument("--out", metavar="FOLDER", help="where the report goes")
    parser.add_argument(
        "--fast", action="store_true", help="no checksums of crops, no decoding of whole videos"
    )
    parser.add_argument(
        "--workers", type=_count, default=0, help="processes (default: one per core)"
    )
    parser.add_argument(
        "--max-distance", type=_count, help="bits of 255 by which near-duplicates may differ (48)"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"takes a whole number from 0 on, not '{text}'")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.compare:
        return _compare(*arguments.compare)
    if arguments.card:
        return _write_card(arguments.card, arguments.out)
    return _check(arguments)


def _check(arguments: argparse.Namespace) -> int:
    """Audit, report, and say what came of it."""
    from joblib import cpu_count

    from datamodules.integrity.audit import audit, split_place
    from datamodules.integrity.report import TEXT_NAME, report_files, screen_lines

    started = time.monotonic()
    out = arguments.out or split_place(arguments.manifest)[0]
    _refuse_unwritable(out, made=arguments.out is not None)
    with _progress() as tell:
        found = audit(
            arguments.manifest,
            arguments.raw,
            fast=arguments.fast,
            num_workers=arguments.workers or cpu_count(),
            max_distance=arguments.max_distance,
            tell=tell,
        )
    _write(out, report_files(found))
    seconds = time.monotonic() - started
    took = f"{seconds:.0f} s"
    if found.num_videos >= _MIN_RATED:
        took += f", {1000 * seconds / found.num_videos:.0f} s per 1,000 videos"
    lines = [*screen_lines(found), f"Report: {_in(out, TEXT_NAME)} (took {took})"]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(found.num_errors > 0)


def _write_card(folder: str, out: str | None) -> int:
    """Write the data card of a folder."""
    from datamodules.integrity.audit import split_place
    from datamodules.integrity.card import CARD_TEXT_NAME, card_files, data_card
    from datamodules.storage.root import open_root

    place = split_place(folder)[0]
    target = out or place
    _refuse_unwritable(target, made=out is not None)
    _write(target, card_files(data_card(open_root(place))))
    sys.stdout.write(f"Data card: {_in(target, CARD_TEXT_NAME)}\n")
    return 0


def _compare(first: str, second: str) -> int:
    """Say what differs between two cards."""
    from datamodules.integrity.card import compare_cards, read_card

    cards = read_card(first), read_card(second)
    same = cards[0].get("store_hash") == cards[1].get("store_hash")
    lines = ["the same crops" if same else "DIFFERENT crops", *compare_cards(*cards)]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(len(lines) > 1)


def _in(place: str, name: str) -> str:
    """Name a file of a place."""
    return f"{place.rstrip('/')}/{name}"


def _refuse_unwritable(out: str, made: bool) -> None:
    """Say before the work, not after it, that a report cannot be written."""
    from datamodules.errors import DataError
    from datamodules.storage.root import is_url, open_root

    if is_url(out):
        open_root(out)
        return
    if made:
        try:
            Path(out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{out} cannot be made ({error}); give another --out") from error
    if Path(out).is_dir() and not os.access(out, os.W_OK):
        raise DataError(f"{out} cannot be written to; give --out <folder> for the report")


def _write(out: str, files: Mapping[str, str]) -> None:
    from datamodules.errors import DataError
    from datamodules.storage.output import open_output

    root = open_output(out)
    try:
        for name, text in files.items():
            root.write(name, text.encode())
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error}); give another --out") from error


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal, a line now and then elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True)
    columns = (TextColumn("checking"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            # A log has no use for a bar: every tenth of the work is a line.
            if not console.is_terminal and done * 10 // total > max(0, done - 1) * 10 // total:
                sys.stderr.write(f"{done} of {total} videos checked\n")

        yield tell


if __name__ == "__main__":
    sys.exit(main())
