"""DeeperForensics-1.0, as its authors distribute it.

    <root>/manipulated_videos/<variant>/000_M101.mp4         forged
    <root>/lists/splits/train.txt, val.txt, test.txt         official splits, names of videos
    <root>/target_videos/000.mp4                             genuine: FaceForensics++ originals, c23
    <root>/source_videos/M101/**/M101_*.mp4                  the actors

<variant> is end_to_end, reenact_postprocess, or end_to_end_ with a kind of distortion; all that
are there are taken, or some by --subset. A forged video shows target 000 with the face of actor
M101 and belongs to both. The genuine videos are the targets, which are no part of the download:
put or link original_sequences/youtube/c23/videos of FaceForensics++ as target_videos/. Where they
are not there, the videos of the actors are taken as the genuine ones, as DeepfakeBench does; they
take the split of their actor. The official splits keep actors apart.

Jiang et al., CVPR 2020, https://arxiv.org/abs/2001.03024.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from datamodules.datasets.adapter import (
    Videos,
    absent,
    finish,
    missing,
    read_lines,
    strange,
    videos_below,
)
from datamodules.datasets.records import SourceVideo
from datamodules.schema import SPLITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datamodules.datasets.adapter import LayoutOptions
    from datamodules.datasets.records import SourceFolder
    from datamodules.storage.root import DataRoot

_SPLIT_FOLDERS = ("lists/splits", "splits/splits", "splits")
_FAKE = re.compile(r"(\d{3})_([MW]\d{3})")
_TARGET = re.compile(r"\d{3}")
_SOURCE = re.compile(r"([MW]\d{3})_.+")


def read_deeperforensics(root: DataRoot, options: LayoutOptions) -> SourceFolder:
    """Read DeeperForensics-1.0; see `layouts.Reader`."""
    paths = videos_below(root, "manipulated_videos")
    fakes = [path for path in paths if _FAKE.fullmatch(path.stem) and len(path.parts) == 3]
    if not fakes:
        raise missing(root, "manipulated_videos", "/<variant>/000_M101.mp4", "unpack the download")
    odd = sorted(set(paths) - set(fakes))
    split_of = _read_splits(root) if options.needs_split else {}
    notes = absent(split_of, {path.stem for path in fakes}, "the official splits")
    targets = [p for p in videos_below(root, "target_videos") if _TARGET.fullmatch(p.stem)]
    videos = _fakes(fakes, split_of, targets)
    if targets:
        by_target = {name.partition("_")[0]: split for name, split in split_of.items()}
        videos += [_target(path, by_target.get(path.stem, "")) for path in targets]
    else:
        by_actor = {name.partition("_")[2]: split for name, split in split_of.items()}
        videos += _sources(root, by_actor, odd, notes)
    notes += strange(odd)
    if options.needs_split:
        unlisted = [video.path for video in videos if not video.split]
        notes += strange(unlisted, "target or actor is in no list of the official splits")
        videos = [video for video in videos if video.split]
    return finish(root, options, "deeperforensics", Videos(videos, notes))


def _fakes(
    paths: Sequence[PurePosixPath], split_of: Mapping[str, str], targets: Sequence[PurePosixPath]
) -> list[SourceVideo]:
    """Describe the forged videos."""
    real_of = {path.stem: str(path) for path in targets}
    videos = []
    for path in paths:
        target, actor = path.stem.split("_")
        videos.append(
            SourceVideo(
                path=path,
                label=1,
                method=path.parts[1],
                name=path.stem,
                compression="",
                groups=(f"ffpp/{target}", f"deeperforensics/{actor}"),
                split=split_of.get(path.stem, ""),
                paired_real=real_of.get(target, ""),
                footage=f"ffpp/{target}",
            )
        )
    return videos


def _target(path: PurePosixPath, split: str) -> SourceVideo:
    """Describe a genuine video of FaceForensics++."""
    group = f"ffpp/{path.stem}"
    return SourceVideo(
        path=path,
        label=0,
        method=None,
        name=path.stem,
        compression="",
        groups=(group,),
        split=split,
        footage=group,
    )


def _sources(
    root: DataRoot, split_of: Mapping[str, str], odd: list[PurePosixPath], notes: list[str]
) -> list[SourceVideo]:
    """Describe the videos of the actors, which stand for the genuine ones."""
    paths = videos_below(root, "source_videos")
    named = {path: match[1] for path in paths if (match := _SOURCE.fullmatch(path.stem))}
    if not named:
        raise missing(
            root,
            "target_videos",
            "/000.mp4",
            "link original_sequences/youtube/c23/videos of FaceForensics++ there; or unpack "
            "source_videos/",
        )
    odd += [path for path in paths if path not in named]
    notes.append(
        "there is no target_videos/: the videos of the actors stand for the genuine ones, and "
        "forged videos have none of their own"
    )
    return [
        SourceVideo(
            path=path,
            label=0,
            method=None,
            name=path.stem,
            compression="",
            groups=(f"deeperforensics/{actor}",),
            split=split_of.get(actor, ""),
            footage=f"deeperforensics/{path.stem}",
        )
        for path, actor in named.items()
    ]


def _read_splits(root: DataRoot) -> dict[str, str]:
    """Read which forged video belongs to which official split, by name."""
    for folder in _SPLIT_FOLDERS:
        files = {split: f"{folder}/{split}.txt" for split in SPLITS}
        if all(root.size(file) >= 0 for file in files.values()):
            return {
                PurePosixPath(line).stem: split
                for split, file in files.items()
                for _, line in read_lines(root, file)
            }
    raise missing(
        root,
        "lists/splits",
        "/train.txt, val.txt and test.txt",
        "they come with the data set; or give --all-test, or --split CSV",
    )
