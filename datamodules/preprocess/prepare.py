"""Prepare one video: decode, find faces, link them to tracks, store the crops.

The frames are decoded twice, once to find faces and once to store the crops of the faces that
belong to a track, so that no video is ever held in memory.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.errors import DataError
from datamodules.faces.bench_landmarks import landmark_file
from datamodules.faces.detect import FaceBackend, face_backend
from datamodules.faces.finding import Found, find_faces_in
from datamodules.faces.given import find_faces
from datamodules.faces.track import LinkedTrack, LinkRules
from datamodules.preprocess.crops import store_tracks
from datamodules.preprocess.frame_choice import (
    ALL_FRAMES,
    mean_step,
    not_taken_rows,
    taken,
)
from datamodules.preprocess.linking import (
    covered_frames,
    drop_row,
    link_tracks,
    readable_frames,
    uncovered_rows,
    why_wrong,
)
from datamodules.store.prepared import TrackMeta
from datamodules.video.frames_reader import frame_files, is_frames
from datamodules.video.reader import (
    VideoInfo,
    file_sha256,
    open_video,
    probe_video,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from datamodules.faces.detect import Face
    from datamodules.faces.known_faces import KnownFaces
    from datamodules.faces.people import Role

#: Raised when the same video and options give other tracks than before.
PREPARE_VERSION = 2
#: Frames of the clips that `max_clips` counts (FTCN, Zheng et al., ICCV 2021).
CLIP_FRAMES = 32
#: What a track says where a file does not tell its frame rate. [ours]
_UNKNOWN_FPS = 25.0


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How to prepare.

    Attributes:
        backend: Face backend.
        faces: Folder of the files that the backend `given` reads; beside the videos unless given.
        max_frames: Frames read of a video, 0 for all. 768 is the limit of FTCN's official demo.
        max_clips: Keep at most the first so many clips of 32 frames of a track, 0 for all.
        start_score: Score that a track starts with (0.8: FTCN's official tracker).
        keep_score: Score that a face is kept with (0.5: FTCN's official detector settings).
        image_format: How crops are stored: `jpg` or, lossless, `png`.
        frames: Which frames of a video are taken: `all`, `first:N` or `spread:N`.
        people: Whose tracks are kept: `all`, or those of the `main` person of each shot.
        reuse_boxes: Look for the faces of a fake where those of its genuine video are, instead
            of by the detector.
    """

    backend: str = "mesh"
    faces: Path | None = None
    max_frames: int = 768
    max_clips: int = 0
    start_score: float = 0.8
    keep_score: float = 0.5
    image_format: Literal["jpg", "png"] = "jpg"
    frames: str = ALL_FRAMES
    people: Literal["all", "main"] = "all"
    reuse_boxes: bool = False

    def backend_options(self, root: Path) -> dict[str, Any]:
        """Give the arguments of the face backend, for videos below `root`."""
        if self.backend == "given":
            return {"folder": self.faces, "root": root}
        if self.backend == "bench":
            return {}
        return {"min_score": self.keep_score}

    def parameters(self) -> dict[str, Any]:
        """Give what the result depends on, as JSON values; not where files lie."""
        values = asdict(self)
        del values["faces"]
        return values


def options_in(parameters: Mapping[str, Any]) -> PrepareOptions:
    """Read how a store was prepared out of what it says of itself.

    Args:
        parameters: Of its `PreparedInfo`; what an older one does not say is as usual.
    """
    known = {field.name for field in fields(PrepareOptions)}
    return PrepareOptions(**{name: value for name, value in parameters.items() if name in known})


@dataclass(frozen=True)
class VideoTask:
    """One video to prepare.

    Attributes:
        root: Of the raw videos.
        out: The prepared store.
        path: Of the video, relative to `root`.
        video_id: As in the manifest; tells where its tracks go.
        options: How to prepare.
        frames: Names of the pictures of a folder that belong to the video; all unless given.
        known: Faces of the genuine video of the same footage, if they are to be reused.
    """

    root: Path
    out: Path
    path: str
    video_id: str
    options: PrepareOptions
    frames: tuple[str, ...] = ()
    known: KnownFaces | None = None


def input_files(task: VideoTask) -> list[Path]:
    """List the files that a result depends on: the video, and given faces if they are used."""
    video = task.root / task.path
    files = _source_files(video, task.frames)
    if task.options.backend == "bench" and files != [video]:
        return [*files, *filter(Path.is_file, map(landmark_file, files))]
    if task.options.backend != "given":
        return files
    faces = find_faces(video, task.options.faces, task.root)
    return files if faces is None else [*files, faces]


def _source_files(video: Path, frames: Sequence[str]) -> list[Path]:
    """List the pictures of a folder of frames, so that a change in any of them is noticed."""
    try:
        return list(frame_files(video, frames).files) if is_frames(video) else [video]
    except DataError:
        return [video]


def prepare_video(task: VideoTask) -> dict[str, Any]:
    """Find and store the face tracks of one video.

    Args:
        task: Which video, and how.

    Returns:
        JSON values: `status` and `reason`; what a `VideoRecord` needs; `tracks`, each with path,
        frames and figures of quality; `dropped`, each with frames and reason; `cuts`, the first
        frames of other shots; `covered_frames`; `reused_frames`, whose boxes another video gave;
        `inputs`, the files it was made of.

    Raises:
        OSError: If the store cannot be written.
        WeightsError: If weights of the face backend are missing.
    """
    video = task.root / task.path
    inputs = [_stamp(path) for path in input_files(task)]
    try:
        info, backend, found = _look_at(task, video)
    except DataError as error:
        result = failed_result(_without_path(error, video))
        return result | {"inputs": inputs, "sha256": inputs[0]["sha256"]}
    options = task.options
    rules = LinkRules(start_score=options.start_score, keep_score=options.keep_score)
    tracks, roles, dropped = link_tracks(found.faces, found.cuts, rules, options.people)
    dropped += _dropped_frames(found, tracks)
    dropped += not_taken_rows(options.frames, found.numbers, info.num_frames)
    tracks, beyond = keep_first_clips(tracks, options.max_clips)
    stored = _store(task, info, found, backend, tracks, roles)
    return {
        "status": "ok" if stored else "no_face",
        "reason": why_wrong(found.damage, bool(stored), _best_score(found), options.start_score),
        "num_frames": readable_frames(
            len(found.faces), found.numbers, info.num_frames, found.decoder != info.decoder
        ),
        "fps": info.fps,
        "height": info.height,
        "width": info.width,
        "sha256": info.sha256,
        "decoder": found.decoder,
        "inputs": inputs,
        "tracks": stored,
        "dropped": dropped + beyond,
        "cuts": found.cuts,
        "frames_read": len(found.faces),
        "covered_frames": len(covered_frames(tracks)),
        "reused_frames": found.num_reused,
    }


def _look_at(task: VideoTask, video: Path) -> tuple[VideoInfo, FaceBackend, Found]:
    """Find the faces of a video, and who found them."""
    info = probe_video(video, allow_damaged=True, frames=task.frames)
    backend = cached_backend(task.options, task.root)
    backend.begin(video)
    choice = task.options.frames
    known = task.known.by_frame(info, choice) if task.known else {}
    found = find_faces_in(video, info, task.frames, choice, task.options.max_frames, backend, known)
    return info, backend, found


def failed_result(reason: str) -> dict[str, Any]:
    """Describe a video of which nothing can be used.

    Args:
        reason: Why, one line.

    Returns:
        As `prepare_video` does.
    """
    measured = {"num_frames": 0, "fps": 0.0, "height": 0, "width": 0, "sha256": ""}
    empty: dict[str, Any] = {"tracks": [], "dropped": [], "cuts": [], "inputs": []}
    empty |= {"frames_read": 0, "covered_frames": 0, "reused_frames": 0}
    status = {"status": "unreadable", "reason": reason, "decoder": "decord"}
    return {**status, **measured, **empty}


@lru_cache(maxsize=1)
def cached_backend(options: PrepareOptions, root: Path) -> FaceBackend:
    """Make the face backend once in each process.

    Args:
        options: How to prepare.
        root: Of the raw videos.

    Raises:
        DataError: If it cannot be made.
        WeightsError: If weights are missing.
    """
    return face_backend(options.backend, **options.backend_options(root))


def keep_first_clips(
    tracks: Sequence[LinkedTrack[Face]], max_clips: int
) -> tuple[list[LinkedTrack[Face]], list[dict[str, Any]]]:
    """Cut tracks after their first clips.

    Args:
        tracks: Any.
        max_clips: Clips of `CLIP_FRAMES` to keep, 0 for all.

    Returns:
        The tracks, and rows on what was cut off for the report.
    """
    most = max_clips * CLIP_FRAMES
    if not most:
        return list(tracks), []
    reason = f"beyond the first {max_clips} clip(s) of the track"
    rows = [
        drop_row("dropped frames", track.frame_index[most:], reason) | {"track": number}
        for number, track in enumerate(tracks)
        if len(track) > most
    ]
    return [LinkedTrack(t.frame_index[:most], t.faces[:most]) for t in tracks], rows


def _store(
    task: VideoTask,
    info: VideoInfo,
    found: Found,
    backend: FaceBackend,
    tracks: Sequence[LinkedTrack[Face]],
    roles: Sequence[Role],
) -> list[dict[str, Any]]:
    """Decode the frames of the tracks again and store the crops."""
    folder = task.out / "tracks" / task.video_id
    image_format = task.options.image_format
    meta = TrackMeta(
        source_sha256=info.sha256,
        backend=backend.name,
        backend_version=backend.version,
        fps=track_fps(task.root / task.path, info.fps, task.frames, found.numbers),
        height=info.height,
        width=info.width,
        image_format=image_format,
        **({} if image_format == "jpg" else {"quality": 0}),
    )
    num_frames = None if found.damage else info.num_frames
    with open_video(task.root / task.path, found.decoder, num_frames, task.frames) as reader:
        stored = store_tracks(taken(reader, found.numbers), tracks, roles, folder, meta)
    for path in folder.glob("*.zip"):
        # Of an earlier preparation, with other settings.
        if path.name not in {Path(track["path"]).name for track in stored}:
            path.unlink()
    return [{**track, "path": f"tracks/{task.video_id}/{track['path']}"} for track in stored]


def track_fps(video: Path, fps: float, frames: Sequence[str], numbers: Sequence[int]) -> float:
    """Tell how many of the taken frames there are a second.

    Args:
        video: The file, or a folder of pictures, which may have gaps of their own.
        fps: Frames a second of the video, 0 where it is not known.
        frames: Pictures that belong to it, as in `VideoRecord`.
        numbers: Frames that are taken, ascending.
    """
    if is_frames(video):
        pictures = frame_files(video, tuple(frames)).numbers
        numbers = [pictures[number] for number in numbers]
    return (fps or _UNKNOWN_FPS) / mean_step(numbers)


def _dropped_frames(found: Found, tracks: Sequence[LinkedTrack[Face]]) -> list[dict[str, Any]]:
    """Say which frames lie in no track, and why."""
    rows = uncovered_rows(map(bool, found.faces), tracks)
    read = len(found.faces)
    if read < len(found.numbers) and not found.damage:
        rest = range(read, len(found.numbers))
        rows.append(drop_row("dropped frames", rest, f"beyond the first {read} frames"))
    return rows


def _best_score(found: Found) -> float:
    return max((face.score for faces in found.faces for face in faces), default=0.0)


def _without_path(message: object, video: Path) -> str:
    """Leave the file out of a message: the report names it in a column of its own."""
    return str(message).removeprefix(f"{video}: ")


def _stamp(path: Path) -> dict[str, Any]:
    """Name the bytes of a file, and when they were written."""
    if not path.is_file():
        return {"mtime_ns": -1, "sha256": ""}
    return {"mtime_ns": path.stat().st_mtime_ns, "sha256": file_sha256(path)}
