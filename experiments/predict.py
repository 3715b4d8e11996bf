"""`python -m experiments.predict --video FILE --run DIR`: score videos, person by person.

For Python: `from experiments.predict import load_detector` gives a trained run as an object whose
`score_clips` takes aligned clips, and which `experiments.predicting.video.score_video` takes.
"""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command_line import OneLineParser, SignalError, ends_by_signal
from experiments.errors import UsageError
from experiments.run import fail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from experiments.detector import Detector
    from experiments.predicting.inputs import Input
    from experiments.predicting.report import VideoReport
    from experiments.predicting.video import ScoringOptions

    Tell = Callable[[str, int, int], None]

_EPILOG = """\
Each video gets a folder: report.json (scores of the video, of each person, track, clip and frame
with their times, the decision, and what these numbers cannot tell), segments.csv and segments.vtt
(stretches that score high), timeline.png, and annotated.mp4; with --explain also moments.png and
moments.json, which show where in a few faces the models found what raised their scores. Scores go
from 0 (looks real to the model) to 1 (looks forged to it). Several models share one decoding and
give their average beside their own scores. Of several videos, bad ones are told in summary.csv and
the exit code is 1; the same command with the same --out goes on where it ended.
More: docs/predict.md.
"""
#: Persons named on the screen; the report lists all. [ours]
_MAX_NAMED = 8


def load_detector(run: Path | str, device: str = "auto", engine: str = "torch") -> Detector:
    """Load a trained run; see `experiments.detector.load_detector`.

    Args:
        run: The run folder.
        device: A torch device, or `auto`.
        engine: What runs the network; see `experiments.engines`.
    """
    from experiments.detector import load_detector as load

    return load(run, device, engine)


def main(argv: list[str] | None = None) -> int:
    """Score videos.

    Args:
        argv: Arguments after the program's name; None takes them from the process.

    Returns:
        Exit code: 0 done, also without a face; 1 some of several videos could not be scored; 2 a
        mistake that the user can mend, said in one line; 128 and the
        number of a signal that ended it, as 130 interrupted, 143 terminated.
    """
    try:
        arguments = _parser().parse_args(argv)
        inputs = _check(arguments)
    except UsageError as error:
        return fail(error)
    # Imported late: help and mistakes need neither network nor decoder.
    from datamodules.errors import DataError
    from weights.errors import WeightsError

    try:
        with ends_by_signal():
            return _predict(arguments, inputs)
    except (UsageError, DataError, WeightsError) as error:
        return fail(error)
    except OSError as error:
        return fail(UsageError(f"{error}; nothing was written"))
    except KeyboardInterrupt as error:
        sys.stderr.write("interrupted; nothing was written of the video at hand\n")
        return 128 + (error.number if isinstance(error, SignalError) else signal.SIGINT)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m experiments.predict",
        description="Score videos with trained models, person by person.",
        epilog=_EPILOG,
    )
    add = parser.add_argument
    several: dict[str, Any] = {"nargs": "+", "action": "extend"}
    add("--video", required=True, metavar="FILE", help="files, folders or URLs", **several)
    add("--run", type=Path, default=[], metavar="DIR", help="runs/<run>", **several)
    add("--weights", default=[], metavar="METHOD:FILE", help="released weight files", **several)
    add("--exp", default=[], metavar="NAME", help="newest finished run of each", **several)
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where --exp looks (runs)")
    add("--out", type=Path, metavar="FOLDER", help="output folder (predictions/<video>-<time>)")
    add(
        "--stride",
        type=_positive,
        metavar="N",
        help="frames between clips; 1 is the official way (a quarter of a clip; a clip where the "
        "method scores frames; not for runs on spread frames, whose clips are those of their test)",
    )
    add("--batch", type=_positive, metavar="N", help="clips scored at once (by the device)")
    add(
        "--backend",
        choices=("mesh", "fan", "given"),
        default="mesh",
        help="who finds the faces; the one the run's data were prepared with (mesh)",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")
    add(
        "--engine",
        choices=("auto", "torch", "openvino", "bf16"),
        default="auto",
        help="what runs the networks (auto: the fastest whose scores are proven equal)",
    )
    add("--no-video", action="store_true", help="write no annotated.mp4")
    add("--explain", action="store_true", help="map what raised the scores, at a few moments")
    add("--allow-url", action="store_true", help="fetch videos by https, never private addresses")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number from 1 on, not '{text}'")
    return int(text)


def _check(arguments: argparse.Namespace) -> list[Input]:
    """Find mistakes before anything slow is done; choose the output folder."""
    from experiments.predicting.inputs import list_inputs

    inputs = list_inputs(arguments.video, arguments.allow_url)
    # What was typed decides, not what a folder holds today.
    arguments.several = len(arguments.video) > 1 or Path(arguments.video[0]).is_dir()
    if not (arguments.run or arguments.weights or arguments.exp):
        raise UsageError("--run, --weights or --exp: name what scores")
    out = arguments.out
    if out is None:
        stem = Path(arguments.video[0]).stem if not inputs[0].is_url else Path(inputs[0].name).stem
        arguments.out = Path("predictions") / f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    elif out.exists() and not out.is_dir():
        raise UsageError(f"--out: {out} is no folder; name a new one")
    elif not arguments.several and out.is_dir() and (any(out.iterdir()) or out == Path()):
        raise UsageError(f"--out: {out} is there already and not empty; name a new folder")
    return inputs


def _predict(arguments: argparse.Namespace, inputs: Sequence[Input]) -> int:
    from experiments.model_choice import load_detectors
    from experiments.predicting.video import ScoringOptions

    detectors = load_detectors(
        arguments.run,
        arguments.weights,
        arguments.exp,
        runs_folder=arguments.runs,
        device=arguments.device,
        engine=arguments.engine,
    )
    if arguments.exp:
        taken = ", ".join(str(d.run) for d in detectors[len(arguments.run) :][: len(arguments.exp)])
        sys.stderr.write(f"newest finished runs: {taken}\n")
    if arguments.explain:
        for detector in detectors:  # who has no maps is told before a video is scored
            if detector.no_maps:
                raise UsageError(detector.no_maps)
    options = ScoringOptions(arguments.backend, arguments.stride, arguments.batch)
    job = _Job(detectors, options, not arguments.no_video, arguments.explain)
    if arguments.several:
        return _predict_all(job, inputs, arguments.out)
    with _progress() as tell:
        report, notes = job.score(inputs[0], arguments.out, tell)
    _say(report, notes, arguments.out)
    return 0


class _Job:
    """Scores one video after the other by the same models."""

    def __init__(
        self,
        detectors: Sequence[Detector],
        options: ScoringOptions,
        annotated: bool,
        explained: bool,
    ) -> None:
        self.detectors = detectors
        self.options = options
        self.annotated = annotated
        self.explained = explained

    def score(self, item: Input, out: Path, tell: Tell) -> tuple[VideoReport, list[str]]:
        """Write the output folder of a video, wholly or not at all."""
        from experiments.explaining.moments import ClipKeeper, explain_moments
        from experiments.predicting.folder import whole_folder
        from experiments.predicting.outputs import write_outputs
        from experiments.predicting.video import score_video

        with whole_folder(out) as folder, _local(item) as video:
            keeper = ClipKeeper() if self.explained else None
            watch = keeper.watch if keeper else lambda *_: None
            report = score_video(video, self.detectors, self.options, tell, watch)
            moments = explain_moments(keeper, self.detectors, tell) if keeper else None
            notes = write_outputs(
                folder, video, report, annotated=self.annotated, moments=moments, tell=tell
            )
        return report, notes

    def finished(self, folder: Path, item: Input) -> dict[str, Any] | None:
        """Read the report of a video that was done before, with all that is wanted now."""
        from experiments.predicting.folder import finished_report, scored_with

        models = [
            {
                "name": spec.name,
                "checkpoint_sha256": spec.facts.checkpoint_sha256,
                "settings": self.options.settings_of(spec),
            }
            for spec in (detector.spec for detector in self.detectors)
        ]
        wanted = scored_with(models, self.options.backend)
        video = None if item.is_url else Path(item.source)
        return finished_report(
            folder, wanted, video, annotated=self.annotated, explained=self.explained
        )


def _predict_all(job: _Job, inputs: Sequence[Input], out: Path) -> int:
    from datamodules.errors import DataError
    from experiments.predicting.folder import failed_row, summary_row, write_summary
    from experiments.predicting.inputs import readable
    from experiments.predicting.report_file import report_content

    rows = []
    for number, item in enumerate(inputs, start=1):
        folder, place = out / item.name, f"{number} of {len(inputs)}, {item.name}"
        content = job.finished(folder, item)
        line = "done before"
        if content is None:
            try:
                with _progress(f"{place}: ") as tell:
                    report, notes = job.score(item, folder, tell)
                content, line = report_content(report), "; ".join(notes)
            except DataError as error:
                line = " ".join(str(error).split())
        row = failed_row(readable(item.source), line)
        if content is not None:
            row = summary_row(readable(item.source), item.name, content)
            score = row["video_score"]
            found = "no score" if score is None else f"{score:.4f} ({row['call']})"
            line = f"{found}  {line}".rstrip()
        rows.append(row)
        write_summary(out, rows)
        sys.stdout.write(f"{place}: {line}\n")
    failed = sum(row["status"] == "failed" for row in rows)
    told = f"{len(rows) - failed} of {len(rows)} videos scored, {failed} failed"
    sys.stdout.write(f"{told}: {out / 'summary.csv'}\n")
    return 1 if failed else 0


@contextmanager
def _local(item: Input) -> Iterator[Path]:
    """Give the file of a video; one behind a URL is there while the block runs."""
    from datamodules.errors import DataError
    from experiments.predicting.fetching import fetched
    from experiments.predicting.inputs import readable

    if not item.is_url:
        if readable(item.source) != item.source:  # decoders, tables and reports take text alone
            raise DataError(f"{readable(item.source)}: the file's name is no UTF-8; rename it")
        yield Path(item.source)
        return
    with fetched(item) as path:
        yield path


@contextmanager
def _progress(prefix: str = "") -> Iterator[Tell]:
    """Show a bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        *(TextColumn("{task.description}"), BarColumn()),
        *(TimeElapsedColumn(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(prefix, total=None)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(task, description=prefix + what, completed=done, total=total or None)

        yield tell


def _say(report: VideoReport, notes: Sequence[str], out: Path) -> None:
    """Write the scores, and where everything lies."""
    from experiments.explaining.drawing import MOMENTS
    from experiments.predicting.outputs import ANNOTATED, REPORT, TIMELINE

    lines = _scores(report) if report.score is not None else [f"no score: {report.reason}"]
    for model in report.models:
        lines += [f"note: {note}" for note in model.spec.facts.notes]
    lines += [f"note: {note}" for note in notes]
    files = {"report": REPORT, "timeline": TIMELINE, "maps": MOMENTS, "video": ANNOTATED}
    lines += [
        f"{what + ':':<10}{out / name}" for what, name in files.items() if (out / name).is_file()
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _scores(report: VideoReport) -> list[str]:
    from experiments.predicting.limits import decision
    from experiments.predicting.report import time_ranges

    lines = []
    for person in report.persons[:_MAX_NAMED]:
        own = [face for face in report.faces if face.person == person]
        spans = [span for face in own for span in time_ranges(report, face)]
        seen = f"{spans[0][0]:.1f} to {spans[-1][1]:.1f} s"
        lines.append(f"person {person}: {report.person_score(person):.4f} ({seen})")
    more = len(report.persons) - _MAX_NAMED
    lines += [f"and {more} more people"] if more > 0 else []
    for model in report.models:
        clips, rule = sum(len(track.clips) for track in model.tracks), model.settings["video_rule"]
        name = model.spec.name if len(report.models) > 1 else "video"
        lines.append(f"{name}: {model.score:.4f} (0 real, 1 fake; {rule} of {clips} clips)")
        made = decision(model)
        if made["operating_point"] is not None:
            held = made["operating_point"]["threshold"]
            word = "no call" if made["call"] == "abstain" else made["call"]
            lines.append(f"call: {word} (calibrated {model.calibrated:.4f}, threshold {held:.4f})")
    if len(report.models) > 1:
        lines.append(f"average: {report.score:.4f} (mean of these {len(report.models)} scores)")
    return [*lines, *([f"note: {report.reason}"] if report.reason else [])]


if __name__ == "__main__":
    sys.exit(main())
