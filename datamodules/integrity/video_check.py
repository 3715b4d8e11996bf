"""Whether the bytes behind one record are those that were prepared: its tracks and its raw file."""

from __future__ import annotations

import hashlib
import json
import zipfile
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datamodules.errors import DataError
from datamodules.manifest import is_inside

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from datamodules.schema import VideoRecord
    from datamodules.storage.root import DataRoot
    from datamodules.store.prepared import TrackReader


@dataclass(frozen=True)
class VideoTask:
    """One video to check.

    Attributes:
        record: Its line of the manifest.
        store: The prepared folder; None to leave its tracks out.
        raw: The raw videos; None to leave its file out.
        backend: Face backend of the store and its version, or empty if unknown.
        fast: Whether to leave out what takes long: checksums of the tracks' members, decoding
            every crop, decoding the raw file.
    """

    record: VideoRecord
    store: DataRoot | None
    raw: DataRoot | None
    backend: str
    fast: bool


@dataclass(frozen=True)
class VideoCheck:
    """What was found out about a video.

    Attributes:
        faults: What is wrong with it, one line each.
        prints: Fingerprint of each track that shows something.
        digests: Of each track that can be read, as `track_digest` gives it.
    """

    faults: list[str]
    prints: list[NDArray[np.uint8]]
    digests: list[str]


def check_video(task: VideoTask) -> VideoCheck:
    """Check the tracks and the raw file of a video; runs in a worker process.

    Args:
        task: What to check.

    Returns:
        What is wrong. Nothing that is wrong with a file raises.
    """
    faults: list[str] = []
    prints: list[NDArray[np.uint8]] = []
    digests: list[str] = []
    if task.store is not None:
        for path in task.record.tracks:
            if not is_inside(path):
                continue  # The check of the manifest tells of it.
            if task.store.size(path) < 0:
                faults.append(f"{path}: is missing")
                continue
            try:
                with task.store.hold(path) as file:
                    digests.append(track_digest(file)[0])
                    prints += _check_track(task, task.store, path, faults)
            except (DataError, OSError, ValueError) as reason:
                faults.append(_fault(path, str(reason), task.store))
    if task.raw is not None and all(map(is_inside, (task.record.path, *task.record.frames))):
        try:
            faults += _source_faults(task.record, task.raw, task.fast)
        except (DataError, OSError, ValueError) as reason:
            faults.append(_fault(task.record.path, str(reason), task.raw))
    return VideoCheck(faults, prints, digests)


def track_digest(path: Path) -> tuple[str, dict[str, Any]]:
    """Name the contents of a track: it lists the checksums of all its members.

    Args:
        path: The zip.

    Returns:
        SHA-256 of its description, and the description.

    Raises:
        DataError: If it is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read("track.json")
        about = json.loads(content)
        if not isinstance(about, dict):
            raise ValueError("track.json is no object")
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as reason:
        raise DataError(f"{path} cannot be read ({reason}); run `make data` again") from reason
    return hashlib.sha256(content).hexdigest(), about


def _check_track(
    task: VideoTask, store: DataRoot, path: str, faults: list[str]
) -> list[NDArray[np.uint8]]:
    """Check a track; its faults are appended, and its fingerprint returned."""
    from datamodules.integrity.fingerprint import fingerprint
    from datamodules.store.prepared import TrackReader

    with store.hold(path) as file, closing(TrackReader(file)) as reader:
        faults += [f"{path}: {reason}" for reason in _origin_faults(task, reader)]
        faults += [f"{path}: {reason}" for reason in _point_faults(task.record, reader)]
        damage = [] if task.fast else _content_faults(reader)
        faults += [_fault(path, reason, store) for reason in damage]
        # What is damaged would be told of twice, or found to be like what it is not.
        found = None if damage else fingerprint(reader)
    return [] if found is None else [found]


def _origin_faults(task: VideoTask, reader: TrackReader) -> list[str]:
    """Compare what a track says of its origin with the manifest and the store."""
    meta, record = reader.meta, task.record
    made = f"{meta.backend} {meta.backend_version}"
    checks = [
        (meta.source_sha256 == record.sha256, "was made of another file than the manifest names"),
        (not task.backend or made == task.backend, f"was made by {made}, not {task.backend}"),
        (
            (meta.height, meta.width) == (record.height, record.width),
            f"was made of pictures of {meta.width}x{meta.height}, not "
            f"{record.width}x{record.height}",
        ),
    ]
    return [reason for fine, reason in checks if not fine]


def _point_faults(record: VideoRecord, reader: TrackReader) -> list[str]:
    """Check the numbers of a track: finite, in order, and where they must lie."""
    import numpy as np

    track, boxes = reader.track, reader.crop_boxes
    frames = track.frame_index
    numbers = (track.box, track.points5, track.points68, track.score)
    if not all(np.isfinite(values).all() for values in numbers):
        return ["holds points that are no numbers"]
    centres = track.points68.mean(axis=1)
    outside = ((centres < boxes[:, :2]) | (centres > boxes[:, 2:])).any(axis=1)
    size = (record.width, record.height)
    empty = (boxes[:, :2] >= boxes[:, 2:]).any() or (boxes[:, :2] < 0).any()
    checks = [
        (frames[0] >= 0 and (np.diff(frames) > 0).all(), "its frames are not in order"),
        (
            frames[-1] < record.num_frames,
            f"holds frame {frames[-1]} of a video of {record.num_frames} frames",
        ),
        (not empty and (boxes[:, 2:] <= size).all(), "holds crops from outside of the picture"),
        (
            not outside.any(),
            f"its landmarks lie outside of the crop in {outside.sum()} of {len(frames)} frames, "
            f"first in frame {frames[outside.argmax()]}",
        ),
    ]
    return [reason for fine, reason in checks if not fine]


def _content_faults(reader: TrackReader) -> list[str]:
    """Compare every member with its checksum; decode every crop, if none has changed."""
    try:
        reader.verify()
    except DataError as reason:
        return [str(reason)]
    bad = []
    for position in range(len(reader)):
        try:
            reader.crops([position])
        except DataError as reason:
            bad.append(str(reason))
    if not bad:
        return []
    return [f"{len(bad)} of {len(reader)} crops do not decode, the first: {bad[0]}"]


def _source_faults(record: VideoRecord, raw: DataRoot, fast: bool) -> list[str]:
    """Compare a raw file with what the manifest says of it."""
    with raw.hold(record.path) as path:
        return _file_faults(record, path, fast)


def _file_faults(record: VideoRecord, path: Path, fast: bool) -> list[str]:
    from datamodules.video.frames_reader import is_frames
    from datamodules.video.reader import file_sha256, probe_video

    if not path.exists():
        return [f"{record.path}: the raw file is missing"]
    if is_frames(path):
        # Hashing a folder of frames means reading them; decoding them comes with it.
        info = probe_video(path, allow_damaged=True, frames=record.frames)
        digest, count = info.sha256, info.num_frames
    else:
        digest = file_sha256(path)
        skip = fast or record.status == "unreadable" or digest != record.sha256
        count = record.num_frames if skip else _count_frames(path, record.decoder)
    if record.sha256 and digest != record.sha256:
        return [f"{record.path}: the raw file has changed (its sha256 differs)"]
    # Of a damaged file the frames before the damage were used, perhaps not all of them.
    is_prefix = record.decoder.endswith("_prefix") and count > record.num_frames
    if count == record.num_frames or is_prefix:
        return []
    return [f"{record.path}: decodes {count} frames, the manifest says {record.num_frames}"]


def _count_frames(path: Path, decoder: str) -> int:
    """Decode a file from end to end."""
    from datamodules.video.reader import open_video

    with open_video(path, decoder) as reader:
        return sum(1 for _ in reader)


def _fault(path: str, reason: str, root: DataRoot) -> str:
    """Name a file once, and relative to its root: reports are read elsewhere."""
    local = reason.replace(f"{str(root).rstrip('/')}/", "")
    return " ".join(f"{path}: {local.removeprefix(path).lstrip(': ')}".split())
