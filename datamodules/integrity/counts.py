"""How many videos there are of which kind, and what that does to a training."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from datamodules.integrity.findings import Finding, error, warning
from datamodules.schema import SPLITS, VideoStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datamodules.schema import VideoRecord

#: Videos of one class for one of the other in a split above which a user is warned: the five
#: methods of FaceForensics++ against its real videos are just allowed. [ours]
MAX_RATIO = 5.0
#: Difference between the classes' shares of lost videos at which a user is warned. [ours]
MAX_LOSS_GAP = 0.05
CLASSES = ("real", "fake")
STATUSES: tuple[str, ...] = get_args(VideoStatus)


@dataclass(frozen=True)
class Table:
    """Counts in rows and columns.

    Attributes:
        title: What is counted.
        columns: Heads of the columns, that of the names first.
        rows: A name, and a count for each further column.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]


def count_tables(records: Sequence[VideoRecord]) -> list[Table]:
    """Count videos by class, method, compression, data set and decoder, and what became of them.

    Args:
        records: The videos.

    Returns:
        Tables of videos by split, and one of the classes by status.
    """
    kinds: dict[str, Callable[[VideoRecord], str]] = {
        "class": class_name,
        "method": lambda r: r.method or ("real" if r.label == 0 else "unknown"),
        "compression": lambda r: r.compression or "unknown",
        "data set": lambda r: r.dataset,
    }
    tables = [_by_split(name, records, key) for name, key in kinds.items()]
    statuses = Counter((class_name(r), str(r.status)) for r in records)
    rows = tuple((name, tuple(statuses[name, s] for s in STATUSES)) for name in CLASSES)
    columns = ("class", *(status.replace("_", " ") for status in STATUSES))
    return [*tables, Table("Videos by what was found in them", columns, rows)]


def count_findings(records: Sequence[VideoRecord]) -> list[Finding]:
    """Judge the counts.

    Args:
        records: The videos.

    Returns:
        An error for a class without a usable video in train; warnings for one absent elsewhere,
        for a lopsided split, for unreadable videos, and for a class that lost more than the other.
    """
    return [*_balance(records), *_losses(records)]


def loss_shares(records: Sequence[VideoRecord]) -> dict[str, float]:
    """Tell what share of each class has no face to score.

    Args:
        records: The videos.

    Returns:
        Share in 0..1 by class; 0 for a class without videos.
    """
    total = Counter(class_name(r) for r in records)
    lost = Counter(class_name(r) for r in records if r.status != "ok")
    return {name: lost[name] / max(1, total[name]) for name in CLASSES}


def class_name(record: VideoRecord) -> str:
    """Name the class of a video; one that is none by its number."""
    return CLASSES[record.label] if record.label in (0, 1) else str(record.label)


def _by_split(name: str, records: Sequence[VideoRecord], key: Callable[[Any], str]) -> Table:
    cells = Counter((key(r), r.split) for r in records)
    names = sorted({name for name, _ in cells}, key=lambda n: (n != "real", n))
    counts = {n: tuple(cells[n, split] for split in SPLITS) for n in names}
    rows = tuple((n, (*row, sum(row))) for n, row in counts.items())
    return Table(f"Videos by {name}", (name, *SPLITS, "all"), rows)


def _balance(records: Sequence[VideoRecord]) -> list[Finding]:
    """Judge each split that has usable videos, and train in any case."""
    found = []
    for split in SPLITS:
        counts = [
            sum(r.label == c and r.status == "ok" for r in records if r.split == split)
            for c in (0, 1)
        ]
        if not any(counts) and split != "train":
            found.append(warning("classes", f"{split} has no usable video"))
            continue
        for name, count in zip(CLASSES, counts, strict=True):
            if not count:
                tell = error if split == "train" else warning
                found.append(tell("classes", f"{split} has no usable {name} video"))
        if all(counts) and max(counts) > MAX_RATIO * min(counts):
            found.append(
                warning(
                    "classes",
                    f"{split} has {counts[0]} real and {counts[1]} fake videos, more than "
                    f"{MAX_RATIO:g} to 1: weight the classes, or the sampler",
                )
            )
    return found


def _losses(records: Sequence[VideoRecord]) -> list[Finding]:
    found = []
    unreadable = [r.video_id for r in records if r.status == "unreadable"]
    if unreadable:
        found.append(warning("status", f"{len(unreadable)} unreadable video(s)", *unreadable))
    shares = loss_shares(records)
    if len({class_name(r) for r in records}) > 1 and abs(shares["real"] - shares["fake"]) > (
        MAX_LOSS_GAP
    ):
        told = " and ".join(f"{100 * share:.0f} % of the {n}" for n, share in shares.items())
        found.append(
            warning("status", f"{told} videos have no usable face: which ones tells the class")
        )
    return found
