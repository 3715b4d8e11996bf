"""WildDeepfake: folders of face pictures, as they are distributed.

    <root>/real_train/<video>/real/<sequence>/<n>.png        genuine, training part
    <root>/fake_train/<video>/fake/<sequence>/<n>.png        forged, training part
    <root>/real_test/..., <root>/fake_test/...               official test part

Each archive <video>.tar.gz is to be unpacked in its folder; a further folder of the archive's
name, or extracted/, does not matter. A sequence is a video: a folder of frames, sorted by the
number in their names. Who is seen is not told; what is kept apart is the video that sequences
were cut from. Val is made of the training part.

Zi et al., ACM MM 2020, https://arxiv.org/abs/2101.01456.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from datamodules.datasets.adapter import Videos, finish, missing, strange
from datamodules.datasets.records import SourceVideo
from datamodules.errors import DataError

if TYPE_CHECKING:
    from datamodules.datasets.adapter import LayoutOptions
    from datamodules.datasets.records import SourceFolder
    from datamodules.storage.root import DataRoot

_FOLDERS = ("real_train", "fake_train", "real_test", "fake_test")
_PICTURES = (".png", ".jpg", ".jpeg")
_ARCHIVES = (".tar.gz", ".tar", ".tgz")


def read_wilddeepfake(root: DataRoot, options: LayoutOptions) -> SourceFolder:
    """Read WildDeepfake; see `layouts.Reader`."""
    videos: list[SourceVideo] = []
    odd: list[str] = []
    packed: list[str] = []
    for folder in _FOLDERS:
        sequences, others = set(), []
        for path in map(PurePosixPath, root.files(folder)):
            is_frame = path.suffix.lower() in _PICTURES and path.stem.isdecimal()
            if is_frame and len(path.parts) > 3:
                sequences.add(path.parent)
            else:
                others.append(path)
        videos += [_video(folder, path) for path in sorted(sequences)]
        done = {_source(path) for path in sequences}
        archives = {path for path in others if path.name.endswith(_ARCHIVES)}
        packed += [str(p) for p in sorted(archives) if p.name.partition(".")[0] not in done]
        odd += [str(path) for path in others if path.suffix.lower() in _PICTURES]
    if not videos and packed:
        raise DataError(
            f"{root}: {len(packed)} archive(s) are still packed, as {packed[0]}; unpack each in "
            "its folder"
        )
    if not videos:
        raise missing(
            root, "real_train", "/<video>/real/<sequence>/<n>.png", "give the unpacked data set"
        )
    there = {video.path.parts[0] for video in videos}
    lacking = [folder for folder in _FOLDERS if folder not in there]
    notes = [f"not there: {', '.join(lacking)}"] if lacking else []
    notes += strange(packed, "contents are still packed") + strange(odd)
    return finish(root, options, "wilddeepfake", Videos(videos, notes), has_val=False)


def _source(path: PurePosixPath) -> str:
    """Name the video that a sequence was cut from."""
    # Between the folder and the sequence lie the video, the class, and names of unpacked archives.
    inner = [part for part in path.parts[1:-1] if part not in ("real", "fake", "extracted")]
    return (inner[0] if inner else path.name).partition(".")[0]


def _video(folder: str, path: PurePosixPath) -> SourceVideo:
    """Describe one sequence."""
    kind, _, split = folder.partition("_")
    video = _source(path)
    return SourceVideo(
        path=path,
        label=int(kind == "fake"),
        method="wild" if kind == "fake" else None,
        name=f"{split}_{video}_{path.name}",
        compression="",
        groups=(f"wilddeepfake/{folder}/{video}",),
        split=split,
        decoder="frames",
    )
