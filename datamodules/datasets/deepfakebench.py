r"""DeepfakeBench and DF40 by their JSON files: frames and landmarks, as both are handed out.

    <root>/<data set>/.../frames/<video>/000.png            crops of 256 pixels
    <root>/<data set>/.../landmarks/<video>/000.npy         81 points of each (backend bench)
    <root>/dataset_json/<name>.json                         or a folder or file by --json

A data set is named by --subset as its file is (FaceForensics++, FF-DF, Celeb-DF-v2, DFDCP,
simswap_ff, blendface_ff, uniface_ff, fomm_ff, deepfacelab, ...); several become one manifest, in
which `dataset` is the name of the subset. Names that end in _c40 take the c40 branch of the plain
file; --compression chooses another branch, c23 unless given. Paths may have back-slashes, drives
and leading folders of other machines; only the frames that are listed belong to a video. Masks
are not read.

Splits are those of the files, with their defects mended: a video that is listed in several splits
(all of DeepFakeDetection and UADFV; val is test in Celeb-DF and DFDCP) is in test only, and what
shows people of the test part is left out of train. --split-from ours makes new splits by person.

Yan et al., NeurIPS 2023, https://arxiv.org/abs/2307.01426; Yan et al., NeurIPS 2024 (DF40),
https://arxiv.org/abs/2406.13495.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from datamodules.datasets.adapter import Videos, finish
from datamodules.datasets.bench_frames import FoundFrames, FrameFinder
from datamodules.datasets.bench_json import BenchVideo, read_bench_json
from datamodules.datasets.bench_labels import family_of, footage_of, groups_of, method_of
from datamodules.datasets.records import SourceVideo, as_folder_name
from datamodules.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datamodules.datasets.adapter import LayoutOptions
    from datamodules.datasets.records import SourceFolder
    from datamodules.storage.root import DataRoot

#: Where the JSON files are looked for below the root.
JSON_FOLDERS = ("dataset_json", "preprocessing/dataset_json")
_C40 = "_c40"


def read_bench(root: DataRoot, options: LayoutOptions) -> SourceFolder:
    """Read data sets by their JSON files; see `layouts.Reader`."""
    files = _json_files(root, options)
    if options.name and len(files) > 1:
        raise DataError(f"--name {options.name} names one data set, not {len(files)}")
    notes: list[str] = []
    finder = FrameFinder(root)
    videos: list[SourceVideo] = []
    for name, file in files.items():
        listed = read_bench_json(file, name, options.compression, notes)
        videos += _videos(root, finder, options.name or name, listed, notes)
    if options.resplit:
        videos = [replace(video, split="") for video in videos]
    chosen = replace(options, subsets=(), compression=None)
    has_val = any(video.split == "val" for video in videos)
    return finish(root, chosen, "+".join(files), Videos(videos, notes), has_val)


def _json_files(root: DataRoot, options: LayoutOptions) -> dict[str, Path]:
    """Find the file of every subset that is asked for."""
    there, where = _all_json(root, options.json)
    names = [name for text in options.subsets for name in re.split(r"[\s,]+", text) if name]
    if not there:
        raise DataError(
            f"{where} has no JSON file of DeepfakeBench (dataset_json/<name>.json); give their "
            "folder, or one file, by --json"
        )
    if not names and len(there) > 1:
        raise DataError(
            f"{where} describes {len(there)} data sets; choose by --subset, for example "
            f"{' '.join(sorted(there)[:3])}"
        )
    files = {}
    for name in dict.fromkeys(names or there):
        file = there.get(name) or there.get(name.removesuffix(_C40))
        if file is None:
            known = ", ".join(sorted(there))
            raise DataError(f"{where} has no {name}.json; there are: {known}")
        files[as_folder_name(name, "subset")] = file
    return files


def _all_json(root: DataRoot, given: Path | None) -> tuple[dict[str, Path], str]:
    """List the JSON files by name, and say where they were looked for."""
    if given is not None:
        files = [given] if given.suffix == ".json" else sorted(given.glob("*.json"))
        if not given.exists():
            raise DataError(f"--json {given}: there is no such file or folder")
        return {file.stem: file for file in files}, str(given)
    for folder in JSON_FOLDERS:
        names = [path for path in map(PurePosixPath, root.files(folder)) if path.suffix == ".json"]
        if names:
            return {path.stem: root.local(str(path)) for path in names}, f"{root}/{folder}"
    return {}, str(root)


@dataclass
class _Missing:
    """What of a list is not there."""

    videos: list[str] = field(default_factory=list)
    num_frames: int = 0
    in_videos: list[str] = field(default_factory=list)

    def notes(self, name: str, num_videos: int) -> list[str]:
        """Say it."""
        lines = []
        if self.videos:
            lines.append(
                f"{name}: {len(self.videos)} of {num_videos} videos are not there, the first is "
                f"{self.videos[0]}"
            )
        if self.num_frames:
            lines.append(
                f"{name}: {self.num_frames} frame(s) of {len(self.in_videos)} video(s) are not "
                f"there, the first video is {self.in_videos[0]}"
            )
        return lines


def _videos(
    root: DataRoot,
    finder: FrameFinder,
    dataset: str,
    listed: Sequence[BenchVideo],
    notes: list[str],
) -> list[SourceVideo]:
    """Find the frames of a list, and describe its videos."""
    finder.locate([(video.folder, video.names) for video in listed])
    found: list[tuple[BenchVideo, FoundFrames]] = []
    lost = _Missing()
    for video in listed:
        frames = finder.find(video.folder, video.names)
        if frames is None:
            lost.videos.append(str(video.folder))
            continue
        found.append((video, frames))
        if frames.num_missing:
            lost.num_frames += frames.num_missing
            lost.in_videos.append(str(frames.path))
    if not found:
        raise DataError(
            f"{root} holds none of the {len(listed)} videos of {dataset}, the first is "
            f"{lost.videos[0]}; give the folder that holds {PurePosixPath(lost.videos[0]).parts[0]}"
        )
    notes += lost.notes(dataset, len(listed))
    notes += _several_splits(dataset, [video for video, _ in found])
    return _described(dataset, found)


def _several_splits(dataset: str, videos: Sequence[BenchVideo]) -> list[str]:
    count = sum(len(video.splits) > 1 for video in videos)
    if not count:
        return []
    return [f"{dataset}: {count} video(s) are listed in several splits; test goes first, then val"]


def _described(dataset: str, found: Sequence[tuple[BenchVideo, FoundFrames]]) -> list[SourceVideo]:
    """Describe videos: method, people, split, and the genuine video of each fake."""
    footage = {}
    real_of: dict[tuple[str, str], str] = defaultdict(str)
    for number, (video, frames) in enumerate(found):
        footage[number] = footage_of(family_of(dataset, frames.path), video.name)
        if video.label == 0:
            real_of[footage[number], video.compression] = str(frames.path)
    return [
        SourceVideo(
            path=frames.path,
            label=video.label,
            method=method_of(video.method, frames.path),
            name=as_folder_name(video.name, f"{dataset}: video"),
            compression=video.compression or None,
            groups=groups_of(family_of(dataset, frames.path), video.name),
            split=next(split for split in ("test", "val", "train") if split in video.splits),
            paired_real=real_of[footage[number], video.compression] if video.label else "",
            footage=footage[number],
            decoder="frames",
            dataset=dataset,
            frames=frames.names,
        )
        for number, (video, frames) in enumerate(found)
    ]
