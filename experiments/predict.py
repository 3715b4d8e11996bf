"""`python -m experiments.predict --video FILE --run DIR`: score a video, face by face.

Writes `report.json` and `timeline.png` into one folder, wholly or not at all.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command_line import OneLineParser
from experiments.errors import UsageError
from experiments.run import fail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from experiments.predicting.report import VideoReport

    Tell = Callable[[str, int, int], None]

_EPILOG = """\
report.json holds the score of the video (over all clips of all faces, 0 real to 1 fake), of
each face, clip and frame with their times, and what these numbers cannot tell. A frame's score is
its own where the method scores frames, else the mean of the clips that show it. A video without
faces gets no score, and the report says so.
"""
#: Faces named on the screen; the report lists all. [ours]
_MAX_NAMED = 8


def main(argv: list[str] | None = None) -> int:
    """Score one video.

    Args:
        argv: Arguments after the program's name; None takes them from the process.

    Returns:
        Exit code: 0 done, also without a face; 2 a mistake that the user can mend, said in one
        line; 130 interrupted.
    """
    try:
        arguments = _parser().parse_args(argv)
        _check(arguments)
    except UsageError as error:
        return fail(error)
    # Imported late: help and mistakes need neither network nor decoder.
    from datamodules.errors import DataError
    from weights.errors import WeightsError

    try:
        return _predict(arguments)
    except (UsageError, DataError, WeightsError) as error:
        return fail(error)
    except OSError as error:
        return fail(UsageError(f"{error}; nothing was written"))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was written\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m experiments.predict",
        description="Score a video with a trained run: report.json and timeline.png.",
        epilog=_EPILOG,
    )
    parser.add_argument("--video", type=Path, required=True, metavar="FILE", help="the video")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="runs/<run>")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="new folder (predictions/<video>-<time>)"
    )
    parser.add_argument(
        "--stride",
        type=_positive,
        metavar="N",
        help="frames between clips (a quarter of a clip; a clip where the method scores frames; "
        "not for runs on spread frames, whose clips are those of their test)",
    )
    parser.add_argument(
        "--batch", type=_positive, metavar="N", help="clips scored at once (by the device)"
    )
    parser.add_argument(
        "--backend",
        choices=("mesh", "fan", "given"),
        default="mesh",
        help="who finds the faces; the one the run's data were prepared with (mesh)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number from 1 on, not '{text}'")
    return int(text)


def _check(arguments: argparse.Namespace) -> None:
    """Find mistakes before anything slow is done; choose the output folder."""
    video, out = arguments.video, arguments.out
    if not video.is_file():
        kind = "is a folder, not a video file" if video.is_dir() else "does not exist"
        raise UsageError(f"--video: {video} {kind}")
    if out is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        arguments.out = Path("predictions") / f"{video.stem}-{stamp}"
    elif out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError(f"--out: {out} is there already and not empty; name a new folder")


def _predict(arguments: argparse.Namespace) -> int:
    from experiments.detector import load_detector
    from experiments.predicting.outputs import write_outputs
    from experiments.predicting.video import ScoringOptions, score_video

    detector = load_detector(arguments.run, arguments.device)
    with _whole_folder(arguments.out) as folder:
        with _progress() as tell:
            options = ScoringOptions(arguments.backend, arguments.stride, arguments.batch)
            report = score_video(arguments.video, [detector], options, tell)
        write_outputs(folder, arguments.video, report)
    _say(report, arguments.out)
    return 0


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """Give a hidden folder that gets its name when the block ends well, and goes if it does not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        partial.mkdir()
        yield partial
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _progress() -> Iterator[Tell]:
    """Show a bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None)

        yield tell


def _say(report: VideoReport, out: Path) -> None:
    """Write the scores, and where everything lies."""
    lines = []
    if report.score is None:
        lines.append(f"no score: {report.reason}")
    else:
        for face in report.faces[:_MAX_NAMED]:
            score, last = report.track_score(face.track), face.time_s[-1]
            lines.append(f"face {face.track}: {score:.4f} ({face.time_s[0]:.1f} to {last:.1f} s)")
        more = len(report.faces) - _MAX_NAMED
        lines += [f"and {more} more faces"] if more > 0 else []
        lines.append(f"video:  {report.score:.4f} (0 real, 1 fake)")
        lines += [f"note: {report.reason}"] if report.reason else []
    for model in report.models:
        lines += [f"note: {note}" for note in model.spec.facts.notes]
    lines += [f"report:   {out / 'report.json'}", f"timeline: {out / 'timeline.png'}"]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
