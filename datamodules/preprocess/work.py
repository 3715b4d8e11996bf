"""One video of a data set, prepared where a worker runs: fetch, prepare, hand in.

What a worker needs lies behind roots, so it may run on any machine that can reach them.
"""

from __future__ import annotations

import platform
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.errors import DataError
from datamodules.faces.bench_landmarks import landmark_file
from datamodules.faces.given import face_names
from datamodules.faces.known_faces import KnownFaces
from datamodules.integrity.video_check import track_digest
from datamodules.preprocess.prepare import (
    PREPARE_VERSION,
    PrepareOptions,
    VideoTask,
    input_files,
    prepare_video,
)
from datamodules.storage.root import LocalRoot
from datamodules.video.reader import file_sha256

if TYPE_CHECKING:
    from datamodules.schema import VideoRecord
    from datamodules.storage.output import OutputRoot
    from datamodules.storage.root import DataRoot

#: What decodes, detects and encodes: crops are the same where these are.
LIBRARIES = ("opencv-python-headless", "av", "decord2", "numpy")


@dataclass(frozen=True)
class GenuineVideo:
    """What a fake takes over from the genuine video of the same footage.

    Attributes:
        tracks: Its prepared tracks: paths in the store, each with its SHA-256.
        num_frames: Frames that it has.
    """

    tracks: dict[str, str]
    num_frames: int


@dataclass(frozen=True)
class RecordTask:
    """One video to prepare, wherever it lies.

    Attributes:
        source: Root of the raw videos.
        out: The prepared store.
        record: The video.
        options: How to prepare.
        software: What it has to be prepared with, as `software` gives it.
        genuine: Whose faces are reused, if any are.
    """

    source: DataRoot
    out: OutputRoot
    record: VideoRecord
    options: PrepareOptions
    software: dict[str, str]
    genuine: GenuineVideo | None = None


def software() -> dict[str, str]:
    """Tell the versions of all that has a say in the bytes of a track, by name."""
    return {"prepare": str(PREPARE_VERSION), **{name: version(name) for name in LIBRARIES}}


def prepare_record(task: RecordTask) -> dict[str, Any]:
    """Prepare one video; the work function of every engine.

    Args:
        task: Which video, and how.

    Returns:
        As `prepare_video` does; tracks with their `sha256` and `digest`, inputs with their `path`.

    Raises:
        OSError: If the store cannot be written.
        DataError: If this machine cannot do it: other software, no access to the files.
        WeightsError: If weights of the face backend are missing.
    """
    _check_machine(task)
    record = task.record
    with ExitStack() as stack:
        for path in _held(task):
            stack.enter_context(task.source.hold(path))
        out = stack.enter_context(task.out.workspace())
        video = replace(_video_task(task, out), known=_known(task, stack))
        result = prepare_video(video)
        # Pictures and faces by the names that they have in their root.
        names = [_name(path, task.source.folder) for path in input_files(video)]
        result["inputs"] = [
            {"path": name, **known} for name, known in zip(names, result["inputs"], strict=True)
        ]
        result["tracks"] = [track | _hashes(out / track["path"]) for track in result["tracks"]]
    folder = f"tracks/{record.video_id}"
    stale = set(task.out.files(folder)) - {track["path"] for track in result["tracks"]}
    # Of an earlier preparation with other settings; only the video's own, not those below.
    task.out.remove(path for path in stale if path.rpartition("/")[0] == folder)
    return result


def input_sizes(task: RecordTask) -> dict[str, int]:
    """Tell the sizes of all files that a result depends on, by path; -1 if there is none.

    Nothing is fetched for it.

    Args:
        task: The video.

    Returns:
        Sizes by path relative to the root of the videos; absolute paths for given faces that lie
        elsewhere.
    """
    if isinstance(task.source, LocalRoot):
        files = input_files(_video_task(task, Path()))
        names = [_name(path, task.source.folder) for path in files]
    else:
        names = _held(task, below=True)
        names += [str(path) for path in _faces_elsewhere(task)]
    return {name: root_of(task.source, name).size(name) for name in names or [task.record.path]}


def root_of(source: DataRoot, path: str) -> DataRoot:
    """Tell where an input lies: absolute paths are files of this machine."""
    return LocalRoot(Path("/")) if path.startswith("/") else source


def _video_task(task: RecordTask, out: Path) -> VideoTask:
    """Describe the work as if all files were on this machine."""
    return VideoTask(
        root=task.source.folder,
        out=out,
        path=task.record.path,
        video_id=task.record.video_id,
        options=task.options,
        frames=task.record.frames,
    )


def _known(task: RecordTask, stack: ExitStack) -> KnownFaces | None:
    """Fetch the tracks of the genuine video, until the stack is closed."""
    if task.genuine is None:
        return None
    tracks = task.genuine.tracks.items()
    files = tuple(stack.enter_context(task.out.hold(path, sha256)) for path, sha256 in tracks)
    return KnownFaces(files, task.genuine.num_frames)


def _held(task: RecordTask, below: bool = False) -> list[str]:
    """List what is to be fetched: the video, and what may be its faces beside it.

    Args:
        task: The video.
        below: Whether to list the files of a folder of frames, and not the folder.
    """
    paths = [task.record.path, *_beside(task)]
    if not below:
        return paths
    files = [[path] if task.source.size(path) >= 0 else task.source.files(path) for path in paths]
    return [file for found in files for file in found]


def _beside(task: RecordTask) -> list[str]:
    """List where given faces may lie beside the video."""
    path = Path(task.record.path)
    if task.options.backend == "given" and task.options.faces is None:
        return [(path.parent / name).as_posix() for name in face_names(path)]
    if task.options.backend == "bench":
        # Without a folder for them there are none, which the backend says.
        with suppress(DataError):
            return [landmark_file(path).as_posix()]
    return []


def _faces_elsewhere(task: RecordTask) -> list[Path]:
    if task.options.backend != "given" or task.options.faces is None:
        return []
    # Without the video, which is not here yet.
    video = _video_task(task, Path())
    return [path for path in input_files(video) if not path.is_relative_to(video.root)]


def _hashes(track: Path) -> dict[str, str]:
    return {"sha256": file_sha256(track), "digest": track_digest(track)[0]}


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path.resolve())


def _check_machine(task: RecordTask) -> None:
    """Refuse to make other bytes than the rest of the store, or to call an absent disk empty."""
    ours = software()
    other = [f"{k} {ours[k]}, not {v}" for k, v in task.software.items() if ours[k] != v]
    if other:
        raise DataError(f"{platform.node()} has {', '.join(other)}; install the same everywhere")
    if isinstance(task.source, LocalRoot) and not task.source.folder.is_dir():
        raise DataError(
            f"{platform.node()} has no folder {task.source}; give workers on other machines a "
            "shared folder or s3://"
        )
