"""What a preparation did: a row for everything kept or dropped, and a closing summary."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import TYPE_CHECKING, Any

from datamodules.atomic import write_text_atomically
from datamodules.schema import SPLITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from datamodules.schema import VideoRecord

REPORT_NAME = "report.csv"
#: What is told of a track that was kept.
_FIGURES = (
    *("first_frame", "last_frame", "num_frames", "person", "rank", "face_px", "score", "blur"),
    *("kept", "yaw", "yaw_range", "pitch", "pitch_range", "roll", "roll_range"),
)
#: `what` is video, track (kept), dropped track, dropped frames, or cut (to another shot).
COLUMNS = (
    "video_id",
    "path",
    "what",
    "status",
    "track",
    *_FIGURES,
    "reused_frames",
    "reason",
)
_STATUS_WORDS = {
    "ok": "with faces",
    "no_face": "without a face",
    "short": "too short",
    "unreadable": "unreadable",
}


def write_report(
    path: Path, records: Sequence[VideoRecord], results: Mapping[str, dict[str, Any]]
) -> None:
    """Write the report, wholly or not at all.

    Args:
        path: The CSV file.
        records: The videos.
        results: What `prepare_video` returned, by `video_id`.

    Raises:
        OSError: If the disk refuses the bytes.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerows(_rows(record, results[record.video_id]))
    write_text_atomically(path, text.getvalue())


def _rows(record: VideoRecord, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the rows of one video: itself, its tracks, and what was dropped of it."""
    about = {"video_id": record.video_id, "path": record.path}
    rows = [
        {
            **about,
            "what": "video",
            "status": record.status,
            "num_frames": record.num_frames,
            "reused_frames": result["reused_frames"],
            "reason": result["reason"],
        }
    ]
    for number, track in enumerate(result["tracks"]):
        rows.append(
            {**about, "what": "track", "track": number, **{name: track[name] for name in _FIGURES}}
        )
    rows += [{**about, **dropped} for dropped in result["dropped"]]
    rows += [
        {**about, "what": "cut", "first_frame": frame, "reason": "first frame of another shot"}
        for frame in result["cuts"]
    ]
    return rows


def count_results(
    records: Sequence[VideoRecord], results: Mapping[str, dict[str, Any]]
) -> dict[str, int]:
    """Count what was found, for `prepared.json`.

    Args:
        records: The videos.
        results: What `prepare_video` returned, by `video_id`.

    Returns:
        Videos by status, tracks, frames, those in tracks, and those whose boxes were reused.
    """
    statuses = Counter(str(record.status) for record in records)
    decoded = sum(record.num_frames for record in records)
    found = [results[record.video_id] for record in records]
    return {
        "videos": len(records),
        **{f"videos_{status}": statuses[status] for status in _STATUS_WORDS},
        "tracks": sum(len(record.tracks) for record in records),
        "frames": decoded,
        "frames_in_tracks": sum(result["covered_frames"] for result in found),
        "frames_with_reused_boxes": sum(result["reused_frames"] for result in found),
    }


def summary_lines(records: Sequence[VideoRecord]) -> list[str]:
    """Say how many videos there are, of which kind, and how many can be used.

    Args:
        records: The videos.

    Returns:
        Lines for the terminal.
    """
    statuses = Counter(record.status for record in records)
    words = [f"{n} {_STATUS_WORDS[name]}" for name, n in sorted(statuses.items(), key=_by_rank)]
    lines = [f"{len(records)} videos: {', '.join(words)}"]
    lines.append("".join(f"{word:>9}" for word in ("", *SPLITS, "all")))
    for label, name in enumerate(("real", "fake")):
        usable = Counter(r.split for r in records if r.label == label and r.tracks)
        total = Counter(r.split for r in records if r.label == label)
        cells = [_share(usable[split], total[split]) for split in SPLITS]
        cells.append(_share(sum(usable.values()), sum(total.values())))
        lines.append("".join(f"{cell:>9}" for cell in (name, *cells)))
    return lines


def _by_rank(item: tuple[str, int]) -> int:
    return list(_STATUS_WORDS).index(item[0])


def _share(usable: int, total: int) -> str:
    """Count the videos of a cell; those without a track are told apart."""
    return str(total) if usable == total else f"{usable}/{total}"
