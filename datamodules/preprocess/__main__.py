"""Prepare a folder of videos for training: `python -m datamodules.preprocess -d ROOT -o OUT`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from datamodules.preprocess.engine import ENGINES
from datamodules.storage.cache import DEFAULT_GB, FOLDER_VARIABLE, SIZE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from datamodules.datasets.records import SourceFolder
    from datamodules.preprocess.batch import Preparation
    from datamodules.preprocess.prepare import PrepareOptions
    from datamodules.schema import VideoRecord
    from datamodules.storage.root import DataRoot

_DESCRIPTION = """
Find, track and store the faces of a data set, in the folders that it is distributed in (--layout),
or of any videos in real/** and fake/<method>/**. Runs again do only what is missing.
"""
#: Failures named on the screen; the report names all. [ours]
_MAX_NAMED = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare a folder.

    Args:
        argv: Command line, without the program's name.

    Returns:
        0; 1 if a video failed that the next run will try again, or is no longer there; 2 after an
        error of the user's; 130 if interrupted.
    """
    # Imported late: the help needs no decoder.
    from datamodules.errors import DataError
    from weights.errors import WeightsError

    try:
        arguments = _parser().parse_args(argv)
        _set_cache(arguments)
        return _look(arguments) if arguments.list or arguments.layouts else _prepare(arguments)
    except (DataError, WeightsError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run the same command again to go on from here\n")
        return 130


class _Parser(argparse.ArgumentParser):
    """Mistakes become one line, as in the other programs."""

    def error(self, message: str) -> NoReturn:
        from datamodules.errors import DataError

        raise DataError(f"{message}; see python -m datamodules.preprocess --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m datamodules.preprocess", description=_DESCRIPTION)

    def add(name: str, *more: str, **options: object) -> None:
        # The dash and the underscore spelling both, as older command lines mix them.
        names = dict.fromkeys([*more, f"--{name}", f"--{name.replace('-', '_')}"])
        parser.add_argument(*names, **options)  # type: ignore[arg-type]

    add("dataset", "-d", metavar="ROOT", help="raw videos: a folder, or s3://...")
    add("output", "-o", metavar="OUT", help="folder or s3://... to prepare into")
    _add_layout_options(add)
    add(
        "backend",
        choices=("mesh", "fan", "given", "bench"),
        default="mesh",
        help="who finds the faces",
    )
    add("faces", type=_path, help="folder of the files that the backend `given` reads")
    add("frames", default="all", help="frames taken: all, first:N or spread:N, as spread:32 (all)")
    add("max-frames", type=_count, default=768, help="frames read of a video, 0 for all (768)")
    add("max-clips", type=_count, default=0, help="32-frame clips kept of a track, 0 for all (0)")
    add("face-thres", type=_share, default=0.8, help="score that a track starts with (0.8)")
    add("bbox-thres", type=_share, default=0.5, help="score that a face is kept with (0.5)")
    add("format", choices=("jpg", "png"), default="jpg", help="stored frames; png is lossless")
    add(
        "people",
        choices=("all", "main"),
        default="all",
        help="whose faces are kept: of all, or of the main person of each shot (all)",
    )
    add(
        "reuse-boxes",
        action="store_true",
        help="look for the faces of a fake where those of its genuine video are",
    )
    add("workers", type=_count, default=0, help="processes (default: one per core)")
    add("engine", choices=ENGINES, default="local", help="who works: processes here, or dask")
    add("address", help="of a dask scheduler, tcp://...; without it dask starts processes here")
    add("cache", type=_path, help="folder for copies of files of s3:// (in ~/.cache)")
    add("cache-gb", type=_gigabytes, help=f"its size in gigabytes ({DEFAULT_GB:.0f})")
    add(
        "redo",
        action="store_true",
        help="prepare all videos again, with other options than those that OUT was made with",
    )
    add("verify", action="store_true", help="hash the tracks in OUT, make those anew that differ")
    add("limit", type=_count, default=0, help="prepare only so many videos, 0 for all (0)")
    return parser


def _add_layout_options(add: Callable[..., None]) -> None:
    """Add what says how the folder of raw videos is read."""
    add("layout", default="folder", help="which data set it is; --layouts shows all (folder)")
    add("layouts", action="store_true", help="show the layouts with their trees, and do nothing")
    add("list", action="store_true", help="count what is in ROOT, and write nothing")
    add("csv", "-c", type=_path, help="manifest of the videos (default: ROOT/manifest.csv, if any)")
    add("split", type=_path, help="CSV with the columns path and split; goes before all others")
    add("name", help="name of the data set (default: that of the layout or folder)")
    add("compression", help="take only this one, as c23 (default: all that are there)")
    add("subset", action="append", default=[], help="take only this method; may be repeated")
    add(
        "keep-apart",
        choices=("person", "footage", "video"),
        default="person",
        help="what no two splits share; video keeps official splits just as they are (person)",
    )
    add("json", type=_path, help="folder of JSON files, or one of them; layout deepfakebench only")
    add(
        "split-from",
        choices=("given", "ours"),
        default="given",
        help="take the splits of the JSON files, or make new ones by person (given)",
    )
    add("all-test", action="store_true", help="put every video into test")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"takes a whole number from 0 on, not '{text}'")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"takes a number in 0..1, not '{text}'")
    return value


def _gigabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"takes a number of gigabytes above 0, not '{text}'")
    return value


def _path(text: str) -> Path:
    from datamodules.storage.root import is_url

    if is_url(text):
        raise argparse.ArgumentTypeError(f"takes a file or folder of this machine, not {text}")
    return Path(text)


def _look(arguments: argparse.Namespace) -> int:
    """Show the layouts, or what is in a folder; write nothing."""
    from datamodules.datasets.layouts import describe_layouts
    from datamodules.datasets.listing import listing

    text = (
        describe_layouts() + "\n"
        if arguments.layouts
        else listing(_read(arguments, _raw(arguments)))
    )
    sys.stdout.write(text)
    return 0


def _raw(arguments: argparse.Namespace) -> DataRoot:
    """Open the folder of raw videos."""
    from datamodules.errors import DataError
    from datamodules.storage.root import open_root

    if arguments.dataset is None:
        raise DataError("give the folder of the raw videos: ROOT=<videos>, or -d <videos>")
    return open_root(arguments.dataset)


def _read(arguments: argparse.Namespace, root: DataRoot) -> SourceFolder:
    """Read the folder of raw videos."""
    from datamodules.datasets.adapter import LayoutOptions
    from datamodules.datasets.layouts import read_layout
    from datamodules.datasets.records import limited

    options = LayoutOptions(
        name=arguments.name,
        manifest=arguments.csv,
        split_file=arguments.split,
        compression=arguments.compression,
        subsets=tuple(arguments.subset),
        keep_apart=arguments.keep_apart,
        json=arguments.json,
        resplit=arguments.split_from == "ours",
        all_test=arguments.all_test,
    )
    source = read_layout(arguments.layout, root, options)
    return limited(source, arguments.limit)


def _set_cache(arguments: argparse.Namespace) -> None:
    """Put the options of the cache where all processes of this machine find them."""
    if arguments.cache is not None:
        os.environ[FOLDER_VARIABLE] = str(arguments.cache.resolve())
    if arguments.cache_gb is not None:
        os.environ[SIZE_VARIABLE] = str(arguments.cache_gb)


def _prepare(arguments: argparse.Namespace) -> int:
    """Read the folder, prepare it, and say what came of it."""
    from joblib import cpu_count

    from datamodules.errors import DataError
    from datamodules.preprocess.batch import check_plan, prepare_folder
    from datamodules.preprocess.engine import check_engine
    from datamodules.preprocess.report import REPORT_NAME

    started = time.monotonic()
    if arguments.output is None:
        raise DataError("give the prepared folder to make: OUT=<prepared>, or -o <prepared>")
    # Before the videos are listed, which may take long.
    check_engine(arguments.engine, arguments.address)
    options, raw = _options(arguments), _raw(arguments)
    check_plan(raw, arguments.output, options, arguments.redo)
    source = _read(arguments, raw)
    for note in source.notes:
        sys.stdout.write(f"{note}\n")
    workers = arguments.workers or cpu_count()
    with _progress() as tell:
        done = prepare_folder(
            *(source, arguments.output, options, workers, tell),
            engine=arguments.engine,
            address=arguments.address,
            redo=arguments.redo,
            verify=arguments.verify,
        )
    _say(done, arguments.output, time.monotonic() - started)
    if not any(record.status == "ok" for record in done.records):
        raise DataError(
            f"none of the {len(done.records)} videos of {arguments.dataset} can be used; "
            f"{arguments.output}/{REPORT_NAME} says why"
        )
    return int(bool(done.failures or done.gone))


def _options(arguments: argparse.Namespace) -> PrepareOptions:
    """Read how to prepare."""
    from datamodules.errors import DataError
    from datamodules.preprocess.frame_choice import check_choice
    from datamodules.preprocess.prepare import PrepareOptions

    start, keep, faces = arguments.face_thres, arguments.bbox_thres, arguments.faces
    if start < keep:
        raise DataError(
            f"--face-thres {start} lies below --bbox-thres {keep}, where no face is kept that a "
            "track could start with; lower --bbox-thres as well"
        )
    if faces is not None and not faces.is_dir():
        raise DataError(f"--faces {faces} is no folder; give that of the files of faces")
    return PrepareOptions(
        backend=arguments.backend,
        faces=arguments.faces,
        max_frames=arguments.max_frames,
        max_clips=arguments.max_clips,
        start_score=arguments.face_thres,
        keep_score=arguments.bbox_thres,
        image_format=arguments.format,
        frames=check_choice(arguments.frames),
        people=arguments.people,
        reuse_boxes=arguments.reuse_boxes,
    )


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar on a terminal, a line now and then elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True)
    columns = [TextColumn("preparing"), BarColumn(), MofNCompleteColumn(), Remaining()]
    counts: Counter[str] = Counter()
    columns.append(TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def tell(done: int, total: int, status: str) -> None:
            counts.update([status] if status else [])
            others = {name: n for name, n in counts.items() if name != "ok"}
            told = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in others.items())
            bar.update(task, completed=done, total=total, description=told)
            # A log has no use for a bar: every tenth of the work is a line.
            if not console.is_terminal and done * 10 // total > max(0, done - 1) * 10 // total:
                sys.stderr.write(f"{done} of {total} videos{told and ': '}{told}\n")

        yield tell


def _say(done: Preparation, out: str, seconds: float) -> None:
    """Write the closing summary: what there is, where it is, and what to type next."""
    from datamodules.preprocess.report import REPORT_NAME, summary_lines

    lines = [*summary_lines(done.records), ""]
    took = f"{seconds / 60:.1f} min" if seconds > 60 else f"{seconds:.0f} s"
    lines.append(f"Took {took}; {done.num_kept} of the videos were there already.")
    if done.changed:
        lines.append(
            f"{len(done.changed)} have changed since then and were prepared again, as "
            f"{done.changed[0]}."
        )
    failed = sorted(done.failures.items())
    if failed:
        lines.append(f"{len(failed)} failed and will be tried again by the next run:")
        lines += [f"  {path}: {reason}" for path, reason in failed[:_MAX_NAMED]]
    lines.append(
        f"Prepared folder: {out}; every dropped frame, with its reason: {out}/{REPORT_NAME}"
    )
    lines += _missing_lines(done, out)
    lines.append(_next_line(done.records, out))
    sys.stdout.write("\n".join(lines) + "\n")


def _missing_lines(done: Preparation, out: str) -> list[str]:
    """Tell which videos of an earlier run were not found by this one."""
    lines = []
    if done.gone:
        lines.append(
            f"{len(done.gone)} raw videos are gone, as {done.gone[0]}; what was made of them is "
            "kept: put them back, or take them off the list of the videos"
        )
    if done.unlisted:
        lines.append(
            f"{len(done.unlisted)} videos of the earlier run are no longer listed, as "
            f"{done.unlisted[0]}; their tracks stay in {out}/tracks, unused, until you remove them"
        )
    return lines


def _next_line(records: Sequence[VideoRecord], out: str) -> str:
    """Say how to train, or what is lacking for it."""
    usable = {(r.split, r.label) for r in records if r.status == "ok"}
    validated = any(split == "val" for split, _ in usable)
    if {("train", 0), ("train", 1)} <= usable and validated:
        return f"Next: make train EXP=ftcn_tt DATA=folder ROOT={shlex.quote(out)}"
    return (
        "No training with it yet: that needs real and fake videos in split train, and videos in "
        "split val."
    )


if __name__ == "__main__":
    sys.exit(main())
