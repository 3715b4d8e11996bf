"""Results of several videos in one folder: what is done stays, what fails is told."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.atomic import write_text_atomically
from datamodules.video.reader import file_sha256
from experiments.errors import UsageError
from experiments.predicting.outputs import ANNOTATED, REPORT
from experiments.predicting.report_file import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUMMARY = "summary.csv"
_COLUMNS = (
    *("video", "status", "video_score", "calibrated_probability", "call", "reason", "folder"),
)
#: Settings that change no score.
_FOR_SPEED = frozenset({"batch", "device"})
#: Differences that are named. [ours]
_MAX_NAMED = 3
_LACKING = object()
_VERSION = "version of the report"
#: Ends the name of a folder that is being written.
_PARTIAL = ".partial"


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give a hidden folder that gets its name when the block ends well, and goes if it does not.

    Those of processes that were killed go as well, when the same folder is to be made again.

    Args:
        out: The folder that is to be there. One that is there already keeps what else it holds; the
            report comes last.

    Yields:
        Where to write.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(out)
    partial = out.with_name(f"{_partial_prefix(out)}{os.getpid()}{_PARTIAL}")
    try:
        partial.mkdir()
        yield partial
        if out.is_dir():
            _move_files(partial, out)
        else:
            partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial_prefix(out: Path) -> str:
    # processes of other machines may write to the same disk, and have the same numbers
    host = re.sub(r"[^\w-]", "-", socket.gethostname())[:40]
    return f".{out.name[:40]}.{host}."


def _remove_left(out: Path) -> None:
    """Remove what killed processes of this machine left beside an output folder."""
    prefix = _partial_prefix(out)
    for path in list(out.parent.iterdir()):
        number = path.name.removeprefix(prefix).removesuffix(_PARTIAL)
        if path.name == f"{prefix}{number}{_PARTIAL}" and number.isdecimal() and _is_over(number):
            shutil.rmtree(path, ignore_errors=True)


def _is_over(number: str) -> bool:
    """Tell whether a process has ended; one that had our number has."""
    if int(number) == os.getpid():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's
        return False
    return False


def finished_report(
    folder: Path,
    wanted: dict[str, Any],
    video: Path | None = None,
    *,
    annotated: bool = False,
    explained: bool = False,
) -> dict[str, Any] | None:
    """Read the report of a video that was scored before.

    Args:
        folder: Its output folder.
        wanted: What `scored_with` says of the models that score now.
        video: The file that is to be scored; None where it is not here yet.
        annotated: Whether the annotated video is wanted.
        explained: Whether maps are wanted.

    Returns:
        The report, or None if there is none yet, or something that is wanted is not beside it.

    Raises:
        UsageError: If it was made by other models or settings, or of another file.
    """
    path = folder / REPORT
    if not path.is_file():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        found = scored_with(report["models"], report["settings"]["backend"])
        others = _differing(found | {_VERSION: report["schema_version"]}, wanted)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is damaged or no report; remove it, or name a new folder with --out"
        ) from error
    if others:
        raise UsageError(
            f"{path} was written by other models or settings ({others}); "
            "name a new folder with --out"
        )
    if video is not None and report["video"]["sha256"] != file_sha256(video):
        raise UsageError(
            f"{path} is of another video, or of another version of {video}; "
            "name a new folder with --out"
        )
    lacking = annotated and not (folder / ANNOTATED).is_file()
    lacking = lacking or (explained and report.get("maps") is None)
    return None if lacking else dict(report)


def scored_with(models: Sequence[dict[str, Any]], backend: str) -> dict[str, Any]:
    """Say by what a report was made: two that agree in it may stand in one table.

    Args:
        models: Of each its `name`, `checkpoint_sha256` and `settings`, as reports have them.
        backend: Who found the faces.

    Returns:
        Values by name. What only decides how fast it was is not among them.
    """
    facts = {
        _VERSION: SCHEMA_VERSION,
        "faces": backend,
        "models": sorted(m["name"] for m in models),
    }
    for model in models:
        settings = {k: v for k, v in model["settings"].items() if k not in _FOR_SPEED}
        for name, value in ({"weights": model["checkpoint_sha256"]} | settings).items():
            facts[f"{name.replace('_', ' ')} of {model['name']}"] = value
    return facts


def _differing(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Name what differs; a report of an older version may lack something as well."""
    if found["models"] != wanted["models"]:
        return "models"
    names = [name for name in wanted if found.get(name, _LACKING) != wanted[name]]
    return ", ".join(names[:_MAX_NAMED])


def _move_files(source: Path, target: Path) -> None:
    """Move files over those of the same names, the report last: it means that all is there."""
    files = [path for path in source.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path == source / REPORT):
        moved = target / path.relative_to(source)
        moved.parent.mkdir(exist_ok=True)
        path.replace(moved)


def summary_row(video: str, folder: str, report: dict[str, Any]) -> dict[str, Any]:
    """Describe a scored video in a line.

    Args:
        video: As it was named.
        folder: Its output folder, relative to the one of all.
        report: Its content.
    """
    return {
        "video": video,
        "status": report["status"],
        "video_score": report["video_score"],
        "calibrated_probability": report["calibrated_probability"],
        "call": report["decision"]["call"],
        "reason": report["reason"],
        "folder": folder,
    }


def failed_row(video: str, reason: str) -> dict[str, Any]:
    """Describe a video that could not be scored.

    Args:
        video: As it was named.
        reason: Why, in one line.
    """
    return {"video": video, "status": "failed", "reason": reason}


def write_summary(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the table of all videos.

    Args:
        out: The folder of all.
        rows: One for each video so far.

    Raises:
        OSError: If the disk refuses the bytes.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text_atomically(out / SUMMARY, text.getvalue())
