"""The score files of a run: what a row holds, how rows are made, written and read."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from callbacks.provenance import Provenance, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from datamodules.schema import ClipRef, VideoRecord

Key = tuple[int, int]
"""video_index and clip_index of a clip."""


class LedgerError(Exception):
    """A score file that is not there, or not one."""


@dataclass(frozen=True)
class ClipRow:
    """One clip of a score file. None and empty texts stand for what is not known.

    Attributes:
        video_id: The video, unique in its manifest.
        dataset: Its data set.
        compression: Its compression level.
        method: How it was forged; empty for a real video.
        label: 0 real, 1 fake.
        split: Its part of the experiment.
        track: Which face of the video.
        clip_index: Which clip of the video.
        first_frame: First source frame of the clip, from its start time.
        last_frame: Last source frame of the clip, from its end time.
        start_s: Start of the clip in seconds.
        end_s: End of the clip in seconds.
        logit: Log-odds of fake.
        score: Probability of fake; None where the logit is not finite.
        run: Run folder of the checkpoint.
        checkpoint: Digest of the checkpoint.
        config: Digest of the run's configuration.
        code: Commit of the code.
    """

    video_id: str
    dataset: str
    compression: str
    method: str
    label: int
    split: str
    track: int | None
    clip_index: int
    first_frame: int | None
    last_frame: int | None
    start_s: float | None
    end_s: float | None
    logit: float
    score: float | None
    run: str
    checkpoint: str
    config: str
    code: str


@dataclass(frozen=True)
class VideoRow:
    """One video of a score file.

    Attributes:
        video_id: The video, unique in its manifest.
        dataset: Its data set.
        compression: Its compression level.
        method: How it was forged; empty for a real video.
        label: 0 real, 1 fake.
        split: Its part of the experiment.
        status: `ok`, or why there is no score: the manifest's word, or `not_finite`.
        num_clips: Clips that were scored.
        score: Probability of fake, pooled over the clips by the method's rule; None without a
            score, never 0 or 0.5.
        run: Run folder of the checkpoint.
        checkpoint: Digest of the checkpoint.
        config: Digest of the run's configuration.
        code: Commit of the code.
    """

    video_id: str
    dataset: str
    compression: str
    method: str
    label: int
    split: str
    status: str
    num_clips: int
    score: float | None
    run: str
    checkpoint: str
    config: str
    code: str


Row = TypeVar("Row", ClipRow, VideoRow)


@dataclass(frozen=True)
class Names:
    """What the keys of a ledger stand for.

    Attributes:
        records: The manifest, in the order of video_index; empty if not known.
        clips: Where each clip lies; empty if not known.
        unscored: Videos that have no clip, each with its status.
    """

    records: Sequence[VideoRecord]
    clips: Mapping[Key, ClipRef]
    unscored: Sequence[VideoRecord]


def clip_rows(
    scores: Mapping[Key, tuple[float, int]], names: Names, source: Provenance
) -> list[ClipRow]:
    """Make the rows of all clips, ascending by key.

    Args:
        scores: Logit and label of each clip.
        names: What the keys stand for.
        source: What made the scores.
    """
    rows = []
    for (video_index, clip_index), (logit, label) in sorted(scores.items()):
        record = _record(names, video_index)
        ref = names.clips.get((video_index, clip_index))
        first_frame, last_frame = _frames(ref, record)
        rows.append(
            ClipRow(
                **_who(record, video_index, label),
                track=ref.track_index if ref else None,
                clip_index=clip_index,
                first_frame=first_frame,
                last_frame=last_frame,
                start_s=ref.start_s if ref else None,
                end_s=ref.end_s if ref else None,
                logit=logit,
                score=_sigmoid(logit),
                **asdict(source),
            )
        )
    return rows


def video_rows(
    scores: Mapping[Key, tuple[float, int]],
    names: Names,
    source: Provenance,
    pool: Callable[[Sequence[float]], float] = fmean,
) -> list[VideoRow]:
    """Make the rows of all videos in the manifest's order, those without a score too.

    Args:
        scores: Logit and label of each clip.
        names: What the keys stand for.
        source: What made the scores.
        pool: Makes a video's score of its clips' probabilities.
    """
    probs: dict[int, list[float | None]] = {}
    labels: dict[int, int] = {}
    for (video_index, _), (logit, label) in sorted(scores.items()):
        probs.setdefault(video_index, []).append(_sigmoid(logit))
        labels[video_index] = label
    rows: dict[int, VideoRow] = {}
    for video_index, values in probs.items():
        finite = [value for value in values if value is not None]
        whole = len(finite) == len(values)
        rows[video_index] = VideoRow(
            **_who(_record(names, video_index), video_index, labels[video_index]),
            status="ok" if whole else "not_finite",
            num_clips=len(values),
            score=pool(finite) if whole else None,
            **asdict(source),
        )
    position = {record.video_id: index for index, record in enumerate(names.records)}
    for record in names.unscored:
        video_index = position.get(record.video_id, len(position) + len(rows))
        status = "no_clip" if record.status == "ok" else record.status
        rows.setdefault(
            video_index,
            VideoRow(
                **_who(record, video_index, record.label),
                status=status,
                num_clips=0,
                score=None,
                **asdict(source),
            ),
        )
    return [rows[index] for index in sorted(rows)]


def write_rows(path: Path, row_type: type[Row], rows: Sequence[Row]) -> None:
    """Write a score file, wholly or not at all.

    Args:
        path: The CSV file.
        row_type: What the rows are; gives the header even without a row.
        rows: The rows.

    Raises:
        OSError: If the disk refuses it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(row_type)])
    for row in rows:
        # csv writes floats by repr, so that reading gives the same bits back.
        writer.writerow(["" if value is None else value for value in asdict(row).values()])
    write_whole(path, text.getvalue())


def read_clip_scores(path: Path) -> list[ClipRow]:
    """Read a score file of clips.

    Args:
        path: `scores/<stage>.csv` of a run.

    Raises:
        LedgerError: If there is no such file, or it has other columns.
    """
    return _read(path, ClipRow)


def read_video_scores(path: Path) -> list[VideoRow]:
    """Read a score file of videos.

    Args:
        path: `scores/<stage>-videos.csv` of a run.

    Raises:
        LedgerError: If there is no such file, or it has other columns.
    """
    return _read(path, VideoRow)


def _read(path: Path, row_type: type[Row]) -> list[Row]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path}: no score file can be read here ({error})") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    types = {field.name: str(field.type) for field in fields(row_type)}
    missing = [name for name in types if name not in (reader.fieldnames or ())]
    if missing:
        raise LedgerError(f"{path}: not a score file of {_kind(row_type)}: no column {missing[0]}")
    rows = []
    for cells in reader:
        try:
            values: dict[str, Any] = {name: _value(cells[name], types[name]) for name in types}
            rows.append(row_type(**values))
        except (TypeError, ValueError) as error:
            raise LedgerError(f"{path}, line {reader.line_num}: {error}") from error
    return rows


def _value(cell: str, type_name: str) -> str | int | float | None:
    if type_name == "str":
        return cell
    if type_name.endswith("None") and not cell:
        return None
    return int(cell) if type_name.startswith("int") else float(cell)


def _kind(row_type: type[Row]) -> str:
    return "clips" if row_type is ClipRow else "videos"


def _record(names: Names, video_index: int) -> VideoRecord | None:
    return names.records[video_index] if video_index < len(names.records) else None


class _Who(TypedDict):
    video_id: str
    dataset: str
    compression: str
    method: str
    label: int
    split: str


def _who(record: VideoRecord | None, video_index: int, label: int) -> _Who:
    return {
        "video_id": record.video_id if record else f"#{video_index}",
        "dataset": record.dataset if record else "",
        "compression": (record.compression or "") if record else "",
        "method": (record.method or "") if record else "",
        "label": label,
        "split": record.split if record else "",
    }


def _frames(ref: ClipRef | None, record: VideoRecord | None) -> tuple[int | None, int | None]:
    if ref is None or record is None or record.fps <= 0:
        return None, None
    # Clip times are frame positions over the rate, so that the positions come back exactly.
    return round(ref.start_s * record.fps), round(ref.end_s * record.fps) - 1


def _sigmoid(logit: float) -> float | None:
    if not math.isfinite(logit):
        return None
    # One exponent that cannot overflow on either side.
    power = math.exp(-abs(logit))
    return 1 / (1 + power) if logit >= 0 else power / (1 + power)
