r"""DF40 by its folders, where there is no JSON file.

    <root>/DF40/<method>/{ff,cdf}/frames/<video>/000.png       forged, for tests
    <root>/DF40_train/<method>/ff/frames/<video>/000.png       forged, for training
    <root>/DF40/<method>/{fake,real}/...                       methods with sources of their own
    <root>/FaceForensics++/original_sequences/youtube/c23/frames/<video>/   genuine, for ff
    <root>/Celeb-DF-v2/Celeb-real/frames/<video>/                           genuine, for cdf

<root> may also be the folder DF40 or DF40_train itself, or the one above. The release holds forged
pictures only; genuine ones are those of FaceForensics++ and Celeb-DF, as DeepfakeBench hands them
out, of the people who are in the forged videos that are taken. --subset takes parts by their names:
simswap_ff, blendface_cdf, deepfacelab, ...; `dataset` of a forged video is its part.

Pictures of methods that make whole faces or edit pictures, and all that lie in no folder
frames/<video>, belong to no video: each is one of a single frame. Forged pictures of DF40 are for
tests, those of DF40_train for training.

Yan et al., NeurIPS 2024, https://arxiv.org/abs/2406.13495.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from datamodules.datasets.adapter import Videos, finish, missing
from datamodules.datasets.bench_labels import (
    DF40_METHODS,
    SOURCES,
    STILL_METHODS,
    family_of,
    footage_of,
    groups_of,
)
from datamodules.datasets.naming import people_of, plain_name
from datamodules.datasets.records import SourceVideo
from datamodules.errors import DataError
from datamodules.video.frames_reader import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from datamodules.datasets.adapter import LayoutOptions
    from datamodules.datasets.records import SourceFolder
    from datamodules.storage.root import DataRoot

#: Genuine videos by source: data set and folder.
_REALS = {
    "ff": ("FaceForensics++", "FaceForensics++/original_sequences/youtube/c23/frames"),
    "cdf": ("Celeb-DF-v2", "Celeb-DF-v2/Celeb-real/frames"),
}
_TRAIN, _TEST = "DF40_train", "DF40"
_METHODS = {name.casefold() for name in DF40_METHODS}
_STILL = {name.casefold() for name in STILL_METHODS}
#: Folders beside the frames that hold no frames.
_NO_FRAMES = ("landmarks", "landmarks_all", "masks")


class _Part(NamedTuple):
    """Where a picture lies.

    Attributes:
        method: Its method.
        source: `ff`, `cdf`, `real` or `fake`.
        split: `train` or `test`.
    """

    method: str
    source: str
    split: str

    @property
    def name(self) -> str:
        """The name of the subset."""
        return f"{self.method}_{self.source}" if self.source in _REALS else self.method


def read_df40(root: DataRoot, options: LayoutOptions) -> SourceFolder:
    """Read DF40 by its folders; see `layouts.Reader`."""
    found: dict[_Part, list[PurePosixPath]] = defaultdict(list)
    in_train = PurePosixPath(str(root)).name == _TRAIN
    for path in map(PurePosixPath, root.files()):
        part = _part(path, in_train)
        if part and path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith("."):
            found[part].append(path)
    if not found:
        remedy = "give the folder that holds DF40 or DF40_train"
        raise missing(root, _TEST, "/<method>/{ff,cdf,fake}/ with pictures", remedy)
    parts = _chosen(found, options.subsets)
    videos = [video for part in parts for video in _videos(part, found[part])]
    notes = [_still_note(videos)] if any(not _in_frames(video.path) for video in videos) else []
    for source in _REALS:
        fakes = [v for p in parts if p.source == source for v in _of_part(p, videos)]
        videos += _genuine(root, source, fakes, notes) if fakes else []
    asked = replace(options, subsets=())
    return finish(root, asked, "df40", Videos(videos, notes), has_val=False)


def _part(path: PurePosixPath, in_train: bool) -> _Part | None:
    """Read method, source and split off a path; None for what is no picture of a method."""
    parts = path.parts
    if any(part in _NO_FRAMES for part in parts[:-1]):
        return None
    for place in range(len(parts) - 2):
        method, source = parts[place], parts[place + 1]
        if method.casefold() in _METHODS and source in SOURCES:
            train = in_train or _TRAIN in parts[:place]
            return _Part(method, source, "train" if train else "test")
    return None


def _chosen(parts: Iterable[_Part], subsets: Sequence[str]) -> list[_Part]:
    """Take the parts that the user asked for, by their names."""
    known = sorted(set(parts))
    wanted = [name for text in subsets for name in re.split(r"[\s,]+", text) if name]
    names = {part.name for part in known}
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise DataError(f"there is no part {unknown[0]!r}; there are: {', '.join(sorted(names))}")
    return [part for part in known if not wanted or part.name in wanted]


def _in_frames(path: PurePosixPath) -> bool:
    """Tell whether a path is a folder of frames, not a lone picture."""
    return path.suffix.lower() not in PICTURE_SUFFIXES


def _videos(part: _Part, paths: Sequence[PurePosixPath]) -> list[SourceVideo]:
    """Describe the videos of a part: folders of frames, or pictures one by one."""
    still = part.method.casefold() in _STILL
    folders = {
        path.parent
        for path in paths
        if path.parent.parent.name in ("frames", "frames_all") and not still
    }
    lone = [path for path in paths if path.parent not in folders]
    return [_video(part, path) for path in [*sorted(folders), *lone]]


def _video(part: _Part, path: PurePosixPath) -> SourceVideo:
    family = family_of(part.name, path)
    label = int(part.source != "real")
    name = path.name if _in_frames(path) else _lone_name(part, path)
    # A lone picture in the folder of a video is of the people of that video.
    lone_of = path.parent.name if people_of(path.parent) else ""
    shown = name if _in_frames(path) or not lone_of else lone_of
    return SourceVideo(
        path=path,
        label=label,
        method=part.method if label else None,
        name=name,
        groups=groups_of(family, shown),
        split=part.split,
        footage=footage_of(family, shown),
        decoder="frames",
        dataset=part.name,
    )


def _lone_name(part: _Part, path: PurePosixPath) -> str:
    """Name a picture by its folders below the source, and its stem."""
    start = max(i for i, name in enumerate(path.parts[:-1]) if name == part.source) + 1
    return plain_name(PurePosixPath(*(n for n in path.parts[start:] if n != "frames")))


def _of_part(part: _Part, videos: Sequence[SourceVideo]) -> list[SourceVideo]:
    return [v for v in videos if v.dataset == part.name and v.split == part.split]


def _genuine(
    root: DataRoot, source: str, fakes: Sequence[SourceVideo], notes: list[str]
) -> list[SourceVideo]:
    """Take the genuine videos of the people in forged ones, in the split of those."""
    dataset, folder = _REALS[source]
    split_of = {group: fake.split for fake in sorted(fakes, key=_by_split) for group in fake.groups}
    paths = map(PurePosixPath, root.files(folder))
    folders = sorted({p.parent for p in paths if p.suffix.lower() in PICTURE_SUFFIXES})
    counts: Counter[bool] = Counter()
    videos = []
    for path in folders:
        groups = groups_of(family_of(dataset, path), path.name)
        split = next((split_of[group] for group in groups if group in split_of), "")
        counts[bool(split)] += 1
        if split:
            videos.append(
                SourceVideo(
                    path=path,
                    label=0,
                    method=None,
                    name=path.name,
                    groups=groups,
                    split=split,
                    footage=footage_of(family_of(dataset, path), path.name),
                    decoder="frames",
                    dataset=dataset,
                )
            )
    told = f"{counts[True]} genuine video(s) of {dataset} are taken"
    if not counts[True]:
        told = f"no genuine video for {source}: there is none of these people in {folder}"
    elif counts[False]:
        told += f", {counts[False]} of other people are not"
    notes.append(told)
    return videos


def _by_split(video: SourceVideo) -> bool:
    """Put tests last, so that they win."""
    return video.split == "test"


def _still_note(videos: Sequence[SourceVideo]) -> str:
    count = sum(not _in_frames(video.path) for video in videos)
    return f"{count} lone picture(s) are videos of one frame"
