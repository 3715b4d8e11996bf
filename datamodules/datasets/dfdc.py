"""The DeepFake Detection Challenge (DFDC) and its preview (DFDCP), as they are distributed.

Layout dfdc:

    <root>/train/dfdc_train_part_0/metadata.json, *.mp4      {name: {label, split, original}}
    <root>/validation/labels.csv, *.mp4                      if there: filename,label
    <root>/test/labels.csv or metadata.json, *.mp4           if there: filename,label or is_fake

The parts may also lie in <root> itself or one folder deeper, with numbers as 0 or 00; those that
are there are taken. A forged video names its `original`. Nobody is named: what is kept apart is
the part, as forged videos and their originals share one, or by --keep-apart footage (and of fewer
than four parts) the original alone. Without a folder validation/, 15 % of train become val;
without test/ as well, all splits are made of the training parts.

Layout dfdcp:

    <root>/dataset.json                                      {path: {label, set, target_id, ...}}
    <root>/original_videos/<person>/<person>_A_001.mp4       genuine
    <root>/method_A/<person>/<person>_C/<other>_<person>_C_001.mp4    forged, so method_B

A forged video belongs to both people, and to the genuine video <person>_C_001. The official set
(train, test) is taken; val is made of the people of train.

Dolhansky et al., 2020, https://arxiv.org/abs/2006.07397; 2019, https://arxiv.org/abs/1910.08854.
"""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from datamodules.datasets.adapter import (
    Videos,
    absent,
    finish,
    is_video,
    missing,
    read_json,
    read_lines,
    strange,
    videos_below,
)
from datamodules.datasets.records import SourceVideo
from datamodules.errors import DataError

if TYPE_CHECKING:
    from datamodules.datasets.adapter import LayoutOptions
    from datamodules.datasets.records import SourceFolder
    from datamodules.storage.root import DataRoot

_LISTS = ("metadata.json", "labels.csv", "label.csv")
_LABELS = {"real": 0, "0": 0, "fake": 1, "1": 1}
#: From so many parts on, parts are kept apart; fewer cannot make two splits of useful sizes. [ours]
MIN_PARTS = 4
#: Prefixes of folders that name a split.
_FOLDERS = {"train": "train", "dfdc_train": "train", "val": "val", "test": "test"}
_PREVIEW_TOPS = ("original_videos", "method_A", "method_B")


def read_dfdc(root: DataRoot, options: LayoutOptions) -> SourceFolder:
    """Read DFDC; see `layouts.Reader`."""
    files = root.files()
    on_disk = {path for path in files if is_video(PurePosixPath(path))}
    lists = _lists(files)
    if not lists:
        raise missing(
            root,
            "metadata.json",
            " or labels.csv beside the videos",
            "unpack the parts with their metadata.json, as train/dfdc_train_part_0/",
        )
    videos, notes = [], []
    for folder, file in lists.items():
        entries = _entries(root, file)
        there = {name for name in entries if str(PurePosixPath(folder, name)) in on_disk}
        notes += absent(entries, there, file)
        videos += [_video(folder, name, entries[name], on_disk) for name in sorted(there)]
    notes += strange(on_disk - {str(video.path) for video in videos}, "label is in no list")
    videos = _by_part(videos)
    splits = {video.split for video in videos}
    if splits == {"train"}:
        notes.append("there is no test/: all splits are made of the training parts")
        videos = [replace(video, split="") for video in videos]
    return finish(root, options, "dfdc", Videos(videos, notes), has_val="val" in splits)


def _lists(files: list[str]) -> dict[str, str]:
    """Find the file that labels the videos of each folder; JSON tells more than CSV."""
    found: dict[str, str] = {}
    for name in _LISTS:
        for path in map(PurePosixPath, files):
            if path.name == name:
                folder = "" if str(path.parent) == "." else str(path.parent)
                found.setdefault(folder, str(path))
    return dict(sorted(found.items()))


def _entries(root: DataRoot, file: str) -> dict[str, dict[str, Any]]:
    """Read a list: what it says about each video, by name."""
    if file.endswith(".json"):
        entries = read_json(root, file)
        if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
            raise DataError(f"{root}/{file} is no metadata.json of DFDC; fetch it again")
    else:
        lines = read_lines(root, file)
        rows = csv.DictReader(line for _, line in lines)
        entries = {row.get("filename") or "": dict(row) for row in rows}
    for name, entry in entries.items():
        label = str(entry.get("label", entry.get("is_fake", ""))).lower()
        if label not in _LABELS:
            raise DataError(f"{root}/{file}: {name!r} has no label REAL or FAKE, 0 or 1")
        original = entry.get("original") or ""
        if not isinstance(original, str):
            raise DataError(
                f"{root}/{file}: original of {name!r} is {original!r}, not the name of a video"
            )
        entry.update(label=_LABELS[label], original=PurePosixPath(original).name)
    return entries


def _video(folder: str, name: str, entry: dict[str, Any], on_disk: set[str]) -> SourceVideo:
    """Describe one video."""
    path = PurePosixPath(folder, name)
    original = str(path.with_name(entry["original"] or path.name))
    is_fake = entry["label"] == 1
    return SourceVideo(
        path=path,
        label=entry["label"],
        method="DFDC" if is_fake else None,
        name=path.stem,
        compression="",
        groups=(f"dfdc/{PurePosixPath(original).stem}",),
        split=_split(folder, entry),
        paired_real=original if is_fake and original != str(path) and original in on_disk else "",
        footage=f"dfdc/{PurePosixPath(original).stem}",
    )


def _split(folder: str, entry: dict[str, Any]) -> str:
    """Tell the split by the folder, or else by the list."""
    for part in PurePosixPath(folder).parts:
        for prefix, split in _FOLDERS.items():
            if part.lower().startswith(prefix):
                return split
    return "test" if entry.get("split") == "test" else "train"


def _by_part(videos: list[SourceVideo]) -> list[SourceVideo]:
    """Group the training videos by their part, where there are enough parts."""
    parts = {str(video.path.parent) for video in videos if video.split == "train"}
    if len(parts) < MIN_PARTS:
        return videos
    return [
        replace(video, groups=(f"dfdc/{video.path.parent.name}",))
        if video.split == "train"
        else video
        for video in videos
    ]


def read_dfdcp(root: DataRoot, options: LayoutOptions) -> SourceFolder:
    """Read the DFDC preview; see `layouts.Reader`."""
    if root.size("dataset.json") < 0:
        raise missing(root, "dataset.json", "", "give the folder dfdc_preview_set")
    entries = read_json(root, "dataset.json")
    wrong = "is not that of the DFDC preview; fetch it again"
    if not isinstance(entries, dict):
        raise DataError(f"{root}/dataset.json {wrong}")
    for key, entry in entries.items():
        if not isinstance(entry, dict):
            raise DataError(f"{root}/dataset.json: {key!r} holds no object, so it {wrong}")
    on_disk = {str(path) for top in _PREVIEW_TOPS for path in videos_below(root, top)}
    reals = {PurePosixPath(path).stem: path for path in on_disk if path.startswith("original")}
    if not reals:
        raise missing(
            root, "original_videos", "/<person>/*.mp4", "unpack the videos of the preview"
        )
    notes = absent(entries, on_disk, "dataset.json")
    notes += strange(on_disk - entries.keys(), "label is not in dataset.json")
    videos = [
        _preview_video(root, PurePosixPath(path), entries[path], reals)
        for path in sorted(on_disk & entries.keys())
    ]
    return finish(root, options, "dfdcp", Videos(videos, notes), has_val=False)


def _preview_video(
    root: DataRoot,
    path: PurePosixPath,
    entry: dict[str, Any],
    reals: dict[str, str],
) -> SourceVideo:
    """Describe one video of the preview."""
    label = _LABELS.get(str(entry.get("label")).lower())
    split = str(entry.get("set"))
    if label is None or split not in ("train", "test"):
        raise DataError(f"{root}/dataset.json: {path} has no label real or fake, or no set")
    # <other>_<person>_C_001: the name of the genuine video follows that of the other person.
    footage = path.stem if label == 0 else path.stem.partition("_")[2]
    ids = [entry.get("target_id"), entry.get("swapped_id"), *re.findall(r"\d{4,}", path.stem)]
    people = dict.fromkeys(str(each) for each in ids if each)
    return SourceVideo(
        path=path,
        label=label,
        method=path.parts[0] if label else None,
        name=path.stem,
        compression="",
        groups=tuple(f"dfdcp/{person}" for person in people),
        split=split,
        paired_real=reals.get(footage, "") if label else "",
        footage=f"dfdcp/{footage}",
    )
