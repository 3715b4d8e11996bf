"""One video of a prepared store, perturbed: faces cut out of changed frames.

Usually boxes and landmarks are those of the unchanged video, so that what is measured is the
detector's sight and not the face finder's. They can be searched anew in the changed frames, as in
use, where a face that is not found leaves a video without a score.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.errors import DataError
from datamodules.faces.detect import Face
from datamodules.faces.people import Role
from datamodules.faces.track import LinkedTrack
from datamodules.perturbations.applying import Footage, outcome_of, perturbed_frames
from datamodules.perturbations.searching import search_tracks
from datamodules.preprocess.crops import store_tracks
from datamodules.preprocess.frame_choice import (
    frame_numbers,
    keeps_numbers,
    taken,
)
from datamodules.preprocess.prepare import cached_backend, track_fps
from datamodules.store.track_file import TrackMeta, TrackReader
from datamodules.video.frames_reader import is_frames
from datamodules.video.reader import file_sha256, open_video

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from datamodules.perturbations.applying import Outcome
    from datamodules.perturbations.table import Perturbation
    from datamodules.preprocess.prepare import PrepareOptions
    from datamodules.schema import FaceTrack, VideoRecord
    from datamodules.storage.root import DataRoot


@dataclass(frozen=True)
class PerturbTask:
    """One video to perturb.

    Attributes:
        raw: Root of the raw videos.
        clean: The prepared store of the unchanged videos.
        out: The store to write into.
        record: The video, in a manifest of `clean`.
        options: How `clean` was prepared.
        perturbation: What is done to it.
        seed: Of all draws.
        search: Search the faces anew in the changed frames.
    """

    raw: DataRoot
    clean: Path
    out: Path
    record: VideoRecord
    options: PrepareOptions
    perturbation: Perturbation
    seed: int
    search: bool = False


def perturb_record(task: PerturbTask) -> dict[str, Any]:
    """Perturb one video; the work function of an engine.

    Args:
        task: Which video, and how.

    Returns:
        JSON values: what changes in its record, and `files`, the tracks with `path` (in the
        store), `num_bytes` and `sha256`.

    Raises:
        OSError: If the store cannot be written.
        DataError: If the raw video is not the one that was prepared, or cannot be encoded.
    """
    record = task.record
    with ExitStack() as stack:
        stack.enter_context(task.raw.hold(record.path))
        video = task.raw.folder / record.path
        _check_same(video, record)
        plan = _plan(task)
        if task.search:
            # Decoded and changed twice, so that no video is held in memory.
            with closing(_changed_frames(task, video, plan)) as frames:
                where = (video, task.raw.folder, task.options)
                tracks, roles = search_tracks(*where, frames)
            plan = replace(plan, tracks=tracks, roles=roles)
        folder = task.out / "tracks" / record.video_id
        with closing(_changed_frames(task, video, plan)) as frames:
            stored = store_tracks(frames, plan.tracks, plan.roles, folder, plan.meta)
    files = [
        {
            "path": f"tracks/{record.video_id}/{track['path']}",
            "num_bytes": track["num_bytes"],
            "sha256": file_sha256(folder / track["path"]),
        }
        for track in stored
    ]
    return {
        "status": "ok" if files else ("no_face" if task.search else "short"),
        "num_frames": len(plan.outcome.shown),
        "fps": plan.outcome.fps,
        "height": plan.outcome.height,
        "width": plan.outcome.width,
        "files": files,
    }


def _changed_frames(
    task: PerturbTask, video: Path, plan: _Plan
) -> Generator[NDArray[np.uint8], None, None]:
    """Yield the changed frames of which tracks count the places."""
    record, footage = task.record, plan.footage
    with open_video(video, record.decoder, record.num_frames, record.frames) as frames:
        needed = islice(frames, footage.num_frames)
        changed = perturbed_frames(needed, task.perturbation, footage, task.seed)
        yield from taken(changed, plan.numbers)


@dataclass(frozen=True)
class _Plan:
    """What is cut out of the changed frames.

    Attributes:
        footage: The video.
        outcome: What becomes of it.
        numbers: The changed frames of which tracks count the places.
        tracks: The faces in them.
        roles: Who they show.
        meta: What every track says of its source.
    """

    footage: Footage
    outcome: Outcome
    numbers: Sequence[int]
    tracks: list[LinkedTrack[Face]]
    roles: list[Role]
    meta: TrackMeta


def _plan(task: PerturbTask) -> _Plan:
    record, choice = task.record, task.options.frames
    readers = [TrackReader(task.clean / path) for path in record.tracks]
    numbers = frame_numbers(choice, record.num_frames)
    footage = _footage(record, readers, numbers)
    if task.search:
        # Faces may turn up where there were none before.
        looked_at = numbers[: task.options.max_frames or None]
        footage = replace(footage, num_frames=looked_at[-1] + 1)
    numbers = numbers[: bisect_left(numbers, footage.num_frames)]
    outcome = outcome_of(task.perturbation, footage)
    place = {number: index for index, number in enumerate(numbers)}
    if len(outcome.shown) < footage.num_frames:
        if not keeps_numbers(choice):
            raise DataError(
                f"{task.perturbation.key} leaves frames out, and the store at {task.clean} was "
                f"prepared with --frames {choice}; prepare one with --frames all"
            )
        place = {number: index for index, number in enumerate(outcome.shown.tolist())}
        numbers = range(len(place))
    source = frame_numbers(choice, record.num_frames)
    scale = np.array([outcome.width / record.width, outcome.height / record.height], np.float32)
    moved = [_moved(reader.track, source, place, scale) for reader in readers]
    kept = [(track, _role(r, i)) for i, (track, r) in enumerate(zip(moved, readers, strict=True))]
    kept = [(track, role) for track, role in kept if len(track)]
    meta = readers[0].meta if readers else _new_meta(task, source)
    for reader in readers:
        reader.close()
    slower = outcome.fps / footage.fps if footage.fps else 1.0
    meta = replace(meta, fps=meta.fps * slower, height=outcome.height, width=outcome.width)
    return _Plan(footage, outcome, numbers, [t for t, _ in kept], [r for _, r in kept], meta)


def _new_meta(task: PerturbTask, numbers: Sequence[int]) -> TrackMeta:
    """Describe the source of a video that had no face when it was prepared."""
    record, options = task.record, task.options
    backend = cached_backend(options, task.raw.folder)
    video = task.raw.folder / record.path
    is_lossless = options.image_format != "jpg"
    return TrackMeta(
        source_sha256=record.sha256,
        backend=backend.name,
        backend_version=backend.version,
        fps=track_fps(video, record.fps, record.frames, numbers),
        height=record.height,
        width=record.width,
        image_format=options.image_format,
        **({"quality": 0} if is_lossless else {}),
    )


def _check_same(video: Path, record: VideoRecord) -> None:
    if not is_frames(video) and file_sha256(video) != record.sha256:
        raise DataError(
            f"{video} is not the file that was prepared: its SHA-256 is another one; "
            "give the raw videos of this store, or prepare them again"
        )


def _footage(
    record: VideoRecord, readers: Sequence[TrackReader], numbers: Sequence[int]
) -> Footage:
    faces: dict[int, list[NDArray[np.float32]]] = defaultdict(list)
    sides = []
    for track in (reader.track for reader in readers):
        boxes = _holding_boxes(track)
        for index, box in zip(track.frame_index.tolist(), boxes, strict=True):
            faces[numbers[index]].append(box)
        sides.append(np.sqrt(np.prod(track.box[:, 2:] - track.box[:, :2], axis=1)))
    return Footage(
        num_frames=max(faces, default=record.num_frames - 1) + 1,
        fps=record.fps,
        height=record.height,
        width=record.width,
        name=record.sha256,
        face_px=float(np.median(np.concatenate(sides))) if sides else 0.0,
        faces=faces,
    )


def _holding_boxes(track: FaceTrack) -> NDArray[np.float32]:
    """Grow the boxes until they hold all landmarks, shape (N, 4)."""
    points = track.points68
    if track.forehead is not None:
        points = np.concatenate([points, track.forehead], axis=1)
    low = np.minimum(track.box[:, :2], points.min(axis=1))
    high = np.maximum(track.box[:, 2:], points.max(axis=1))
    return np.concatenate([low, high], axis=1)


def _moved(
    track: FaceTrack,
    source: Sequence[int],
    place: Mapping[int, int],
    scale: NDArray[np.float32],
) -> LinkedTrack[Face]:
    """Find the faces of a track again among the changed frames."""
    moved: LinkedTrack[Face] = LinkedTrack()
    for row, index in enumerate(track.frame_index.tolist()):
        if source[index] not in place:
            continue
        moved.frame_index.append(place[source[index]])
        forehead = None if track.forehead is None else track.forehead[row] * scale
        face = Face(
            box=track.box[row] * np.tile(scale, 2),
            score=float(track.score[row]),
            points68=track.points68[row] * scale,
            points5=track.points5[row] * scale,
            forehead=forehead,
        )
        moved.faces.append(face)
    return moved


def _role(reader: TrackReader, number: int) -> Role:
    # Stores of the first format know no roles: their tracks are numbered, which must do.
    figures = {"person": number, "rank": 0, **reader.figures}
    return Role(int(figures["person"]), int(figures["rank"]))
