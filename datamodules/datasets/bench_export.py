"""From a prepared store to DeepfakeBench's folders and JSON files."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from datamodules.atomic import write_text_atomically
from datamodules.datasets.bench_labels import DF40_METHODS, LABELS
from datamodules.errors import DataError
from datamodules.schema import SPLITS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from datamodules.datasets.bench_crops import FaceCrops
    from datamodules.schema import Clip, VideoRecord
    from datamodules.storage.root import DataRoot
    from datamodules.store.prepared import PreparedStore

#: Data sets by the names that other readers of the suite give them.
_NAMES = {
    "ffpp": "FaceForensics++",
    "faceshifter": "FaceShifter",
    "dfd": "DeepFakeDetection",
    "celeb_df_v1": "Celeb-DF-v1",
    "celeb_df_v2": "Celeb-DF-v2",
    "dfdc": "DFDC",
    "dfdcp": "DFDCP",
    "deeperforensics": "DeeperForensics-1.0",
    "uadfv": "UADFV",
}
#: Data set -> beginning of its label keys (DeepfakeBench's `label_dict`).
_LABELS_OF = {
    "FaceForensics++": "FF-",
    "FF-DF": "FF-",
    "FF-F2F": "FF-",
    "FF-FS": "FF-",
    "FF-NT": "FF-",
    "FaceShifter": "FF-",
    "DeepFakeDetection": "DFD_",
    "Celeb-DF-v1": "CelebDFv1_",
    "Celeb-DF-v2": "CelebDFv2_",
    "DFDCP": "DFDCP_",
    "DFDC": "DFDC_",
    "DeeperForensics-1.0": "DF_",
    "UADFV": "UADFV_",
}
#: Data sets whose files list videos by compression.
_BY_COMPRESSION = ("FF-", "DFD_")


class Place(NamedTuple):
    """Where a video goes.

    Attributes:
        key: Label key.
        compression: Level of the file; empty where it has none.
        folder: That holds `frames` and `landmarks`, relative to the exported folder.
        name: Of the video.
    """

    key: str
    compression: str
    folder: PurePosixPath
    name: str


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: The JSON files.
        num_videos: Videos in them.
        num_frames: Crops.
        notes: What a user should know, one line each.
    """

    files: list[Path]
    num_videos: int
    num_frames: int
    notes: list[str]


def export_bench(
    store: PreparedStore,
    out: Path,
    frames: str,
    prefix: str,
    name: str | None = None,
    raw: DataRoot | None = None,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Exported:
    """Write crops, landmarks and a JSON file for each data set of a store.

    Of every frame the largest face is taken, as the bench does.

    Args:
        store: What to write.
        out: The folder to write into.
        frames: Which of the frames with a face are taken: `all`, `first:N` or `spread:N`.
        prefix: What stands before the paths in the JSON files.
        name: Of the data set; the bench's name for that of the manifest unless given.
        raw: Root of the raw videos, to cut crops out of whole frames; out of the crops of the
            store, which may leave black corners, unless given.
        tell: Called with the number of videos done, of all.

    Returns:
        What was written.

    Raises:
        DataError: If two videos would be one, a name is given to several data sets, nothing has a
            face, or a track is damaged.
        OSError: If the disk refuses the bytes.
    """
    from datamodules.datasets.bench_crops import FaceCrops

    usable = _usable(store, name)
    places = _places(usable, name)
    crops = FaceCrops(store, raw)
    content: dict[str, Any] = {}
    num_frames = 0
    files = _cleared_files(out, usable, name)
    for done, record in enumerate(usable):
        dataset, place = name or bench_name(record.dataset), places[record.video_id]
        written = _write_video(crops, record, out, place, frames)
        num_frames += len(written)
        videos = _split(content.setdefault(dataset, {}), record, place)
        videos[place.name] = {"label": place.key, "frames": [prefix + path for path in written]}
        tell(done + 1, len(usable))
    for dataset, file in files.items():
        write_text_atomically(file, json.dumps({dataset: content[dataset]}, indent=1) + "\n")
    return Exported([*files.values()], len(usable), num_frames, _notes(store, usable, places))


def _usable(store: PreparedStore, name: str | None) -> list[VideoRecord]:
    """List the videos with a face, of one data set if it is given a name."""
    usable = [record for record in store.records if record.tracks]
    if not usable:
        raise DataError(f"{store.files} has no video with a face; there is nothing to export")
    datasets = sorted({record.dataset for record in usable})
    if name and len(datasets) > 1:
        raise DataError(f"--name {name} names one data set, but there are: {', '.join(datasets)}")
    return usable


def _cleared_files(out: Path, records: Sequence[VideoRecord], name: str | None) -> dict[str, Path]:
    """Give the JSON file of each data set; an old one names pictures that are about to go."""
    datasets = sorted({name or bench_name(record.dataset) for record in records})
    files = {dataset: out / "dataset_json" / f"{dataset}.json" for dataset in datasets}
    for file in files.values():
        file.unlink(missing_ok=True)
    return files


def bench_name(dataset: str) -> str:
    """Give the name by which DeepfakeBench knows a data set; its own where it knows none."""
    return _NAMES.get(dataset.removesuffix("_c40"), dataset.removesuffix("_c40"))


def place_of(record: VideoRecord, name: str | None = None) -> Place:
    """Tell where a video goes.

    Args:
        record: The video.
        name: Of its data set; the bench's name unless given.

    Returns:
        Label key and folders, as DeepfakeBench has them for its own data sets; for others
        `<name>_Real` and `<method>_Fake`.
    """
    dataset = name or bench_name(record.dataset)
    start = _LABELS_OF.get(dataset, "")
    key = _label_key(record, start) or (
        f"{record.method}_Fake" if record.label else f"{_subject(dataset)}_Real"
    )
    video = PurePosixPath(record.video_id).name
    if start not in _BY_COMPRESSION:
        kind = str(record.method) if record.label else "real"
        return Place(key, "", PurePosixPath(dataset, kind), video)
    level = record.compression or "raw"
    original = "actors" if start == "DFD_" else "youtube"
    part = f"manipulated_sequences/{record.method}" if record.label else None
    folder = PurePosixPath("FaceForensics++", part or f"original_sequences/{original}", level)
    return Place(key, level, folder, video)


def _label_key(record: VideoRecord, start: str) -> str:
    """Find the label key of a known data set; empty if it has none for the method."""
    keys = [key for key in LABELS if start and key.startswith(start)]
    method = record.method if record.label else None
    exact = next((key for key in keys if LABELS[key] == method), "")
    fakes = [key for key in keys if LABELS[key] is not None]
    return exact or (fakes[0] if record.label and len(fakes) == 1 else "")


def _subject(dataset: str) -> str:
    """Name what a subset of DF40 is about: its method."""
    method = dataset.rpartition("_")[0]
    return method if method in DF40_METHODS else dataset


def _places(records: Sequence[VideoRecord], name: str | None) -> dict[str, Place]:
    """Give every video a place of its own."""
    places = {record.video_id: place_of(record, name) for record in records}
    owners: dict[str, str] = {}
    for video_id, place in places.items():
        # Some file systems do not tell letters apart.
        folder = str(place.folder / place.name).casefold()
        other = owners.setdefault(folder, video_id)
        if other != video_id:
            raise DataError(
                f"{other} and {video_id} would both be {place.folder}/frames/{place.name}; export "
                "one data set at a time, into folders of their own"
            )
    return places


def _split(labels: dict[str, Any], record: VideoRecord, place: Place) -> dict[str, Any]:
    """Find the list of videos that a video belongs to; loaders look for every split and level."""
    splits: dict[str, dict[str, Any]] = labels.setdefault(place.key, {s: {} for s in SPLITS})
    videos = splits[record.split]
    if place.compression:
        for split in SPLITS:
            splits[split].setdefault(place.compression, {})
        videos = videos[place.compression]
    return videos


def _write_video(
    crops: FaceCrops, record: VideoRecord, out: Path, place: Place, frames: str
) -> list[str]:
    """Write the crops and landmarks of one video.

    Returns:
        The pictures, relative to the folder.
    """
    for kind in ("frames", "landmarks"):
        _clear(out / place.folder / kind / place.name)
    written = []
    for clip in crops.clips(record, frames):
        for index, picture, points in zip(
            clip.frame_index.tolist(), clip.frames, _landmarks(clip), strict=True
        ):
            path = place.folder / "frames" / place.name / f"{index:03d}.png"
            twin = place.folder / "landmarks" / place.name / f"{index:03d}.npy"
            _write_png(out / path, picture)
            (out / twin).parent.mkdir(parents=True, exist_ok=True)
            np.save(out / twin, points)
            written.append(str(path))
    return sorted(written, key=lambda path: int(PurePosixPath(path).stem))


def _clear(folder: Path) -> None:
    """Remove the frames of an earlier export, which may have been others."""
    for file in folder.glob("*"):
        if file.suffix in (".png", ".npy") and file.stem.isdecimal():
            file.unlink()


def _landmarks(clip: Clip) -> NDArray[np.int32]:
    """Give 81 points a frame; 4-byte integers, as the bench's LMDB reader takes their bytes."""
    from datamodules.faces.landmarks import points81

    points = np.rint(points81(clip.points68, clip.forehead))
    return np.asarray(points, np.int32)


def _write_png(file: Path, picture: NDArray[np.uint8]) -> None:
    import cv2

    done, content = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"{file}: a crop cannot be stored as PNG")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.tobytes())


def _notes(
    store: PreparedStore, usable: Sequence[VideoRecord], places: Mapping[str, Place]
) -> list[str]:
    """Say what is not in the files, and what the bench has to be told."""
    notes = []
    lost = Counter(record.status for record in store.records if not record.tracks)
    notes += [f"{n} video(s) are left out: {what}" for what, n in sorted(lost.items())]
    if any(store.reader(record.tracks[0]).track.forehead is None for record in usable[:1]):
        notes.append("landmarks 68 to 80 (forehead) are estimated: the face backend has none")
    new = sorted({place.key for place in places.values()} - set(LABELS))
    if new:
        labels = ", ".join(f"{key}: {int(key.endswith('_Fake'))}" for key in new)
        notes.append(f"put into label_dict of DeepfakeBench's configuration: {labels}")
    return notes
