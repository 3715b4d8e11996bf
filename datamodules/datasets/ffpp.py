"""FaceForensics++ and FaceShifter, as the official script downloads them.

    <root>/original_sequences/youtube/<c>/videos/000.mp4             genuine
    <root>/manipulated_sequences/<method>/<c>/videos/000_003.mp4     forged
    <root>/splits/train.json, val.json, test.json                    official splits

<c> is raw (or c0), c23 or c40; all that are there are taken, or one by --compression. <method> is
Deepfakes, Face2Face, FaceSwap, NeuralTextures or FaceShifter; layout faceshifter takes the last
one only. The split files, lists of pairs of ids, are also found in dataset/splits/ or in <root>
itself; they come with the FaceForensics code. A forged video a_b shows the footage of a with the
face (or the expressions) of b: it belongs to both identities, and to the genuine video a.

Rössler et al., ICCV 2019, https://arxiv.org/abs/1901.08971; Li et al., CVPR 2020 (FaceShifter),
https://arxiv.org/abs/1912.13457.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import chain
from typing import TYPE_CHECKING

from datamodules.datasets.adapter import (
    Videos,
    absent,
    finish,
    missing,
    read_json,
    strange,
    videos_below,
)
from datamodules.datasets.records import SourceVideo
from datamodules.errors import DataError
from datamodules.schema import SPLITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import PurePosixPath

    from datamodules.datasets.adapter import LayoutOptions
    from datamodules.datasets.records import SourceFolder
    from datamodules.storage.root import DataRoot

METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")
#: Names of the folders, and the name that the compression goes by.
COMPRESSIONS = {"raw": "raw", "c0": "raw", "c23": "c23", "c40": "c40"}
#: Where the official split files are usually put.
_SPLIT_FOLDERS = ("splits", "dataset/splits", "")
_NAME = re.compile(r"(\d{3})(?:_(\d{3}))?")
#: Parts of an FF++ download that are other data sets, or no videos of faces.
_OTHER_PARTS = {"actors": "layout dfd", "DeepFakeDetection": "layout dfd", "masks": "masks"}


def read_ffpp(root: DataRoot, options: LayoutOptions) -> SourceFolder:
    """Read FaceForensics++; see `layouts.Reader`."""
    return finish(root, options, "ffpp", _read(root, options, METHODS))


def read_faceshifter(root: DataRoot, options: LayoutOptions) -> SourceFolder:
    """Read the genuine and the FaceShifter videos of FaceForensics++; see `layouts.Reader`."""
    return finish(root, options, "faceshifter", _read(root, options, ("FaceShifter",)))


def tree_part(path: PurePosixPath) -> tuple[str, str] | None:
    """Read part and compression off a path of the FaceForensics++ tree.

    Args:
        path: Of a video, relative to the root.

    Returns:
        (`youtube`, `actors` or a method; compression); None for a path of another form.
    """
    if len(path.parts) != 5:
        return None
    top, part, compression, folder, _ = path.parts
    if folder != "videos" or compression not in COMPRESSIONS:
        return None
    is_original = part in ("youtube", "actors")
    if top != ("original_sequences" if is_original else "manipulated_sequences"):
        return None
    return part, COMPRESSIONS[compression]


def tree_videos(root: DataRoot) -> list[PurePosixPath]:
    """List the videos of the FaceForensics++ tree.

    Args:
        root: Holds `original_sequences` and `manipulated_sequences`.

    Returns:
        Sorted paths.
    """
    tops = ("original_sequences", "manipulated_sequences")
    return [path for top in tops for path in videos_below(root, top)]


def _read(root: DataRoot, options: LayoutOptions, methods: Sequence[str]) -> Videos:
    """Find the videos of some methods and the genuine ones."""
    found: dict[tuple[str, str], dict[str, PurePosixPath]] = defaultdict(dict)
    others: Counter[str] = Counter()
    odd: list[PurePosixPath] = []
    for path in tree_videos(root):
        where = tree_part(path)
        other = next((_OTHER_PARTS[part] for part in path.parts if part in _OTHER_PARTS), "")
        wanted = where is not None and where[0] in ("youtube", *methods)
        if where and wanted and _fits(path, where[0]) and path.stem not in found[where]:
            found[where][path.stem] = path
        elif other or (where and not wanted and where[0] in METHODS):
            others[other or "other methods"] += 1
        else:
            odd.append(path)
    _check(root, found)
    split_of = _read_splits(root) if options.needs_split else {}
    notes = [f"{n} video(s) are not read here: {what}" for what, n in sorted(others.items())]
    notes += strange(odd)
    videos = [
        _video(part, compression, path, found, split_of)
        for (part, compression), paths in found.items()
        for path in paths.values()
    ]
    if options.needs_split:
        wanted_parts = {
            (part, compression): paths
            for (part, compression), paths in found.items()
            if options.compression in (None, compression)
            and (not options.subsets or part in ("youtube", *options.subsets))
        }
        notes += _absent(wanted_parts, split_of)
        unlisted = [str(video.path) for video in videos if not video.split]
        notes += strange(unlisted, "people are not in one list of the official splits")
        videos = [video for video in videos if video.split]
    return Videos(videos, notes)


def _fits(path: PurePosixPath, part: str) -> bool:
    match = _NAME.fullmatch(path.stem)
    return match is not None and (match[2] is None) == (part == "youtube")


def _check(root: DataRoot, found: Mapping[tuple[str, str], object]) -> None:
    """Refuse a tree without genuine videos or without the method."""
    if not any(part == "youtube" for part, _ in found):
        raise missing(
            root,
            "original_sequences/youtube",
            "/<raw, c23 or c40>/videos/*.mp4",
            "give the folder that the official download script made",
        )
    for part, compression in found:
        if ("youtube", compression) not in found:
            raise DataError(
                f"{root} has {part} in {compression}, but no genuine videos in it "
                f"(original_sequences/youtube/{compression}/videos/*.mp4); download them as well"
            )


def _video(
    part: str,
    compression: str,
    path: PurePosixPath,
    found: Mapping[tuple[str, str], Mapping[str, PurePosixPath]],
    split_of: Mapping[str, str],
) -> SourceVideo:
    """Describe one video."""
    people = path.stem.split("_")
    splits = {split_of.get(person, "") for person in people}
    real = found["youtube", compression].get(people[0])
    is_fake = part != "youtube"
    return SourceVideo(
        path=path,
        label=int(is_fake),
        method=part if is_fake else None,
        name=path.stem,
        compression=compression,
        groups=tuple(f"ffpp/{person}" for person in people),
        split=splits.pop() if len(splits) == 1 else "",
        paired_real=str(real) if is_fake and real else "",
    )


def _read_splits(root: DataRoot) -> dict[str, str]:
    """Read which id belongs to which official split."""
    for folder in _SPLIT_FOLDERS:
        files = {split: f"{folder}/{split}.json".lstrip("/") for split in SPLITS}
        if all(root.size(file) >= 0 for file in files.values()):
            break
    else:
        raise DataError(
            f"{root} has no splits/train.json, val.json and test.json (nor in dataset/splits/ or "
            "beside the videos); copy dataset/splits/ of the FaceForensics code there, or give "
            "--all-test, or --split CSV"
        )
    split_of: dict[str, str] = {}
    for split, file in files.items():
        pairs = read_json(root, file)
        if not isinstance(pairs, list) or not all(isinstance(pair, list) for pair in pairs):
            raise DataError(f"{root}/{file} is no list of pairs of ids; fetch it again")
        for person in map(str, chain.from_iterable(pairs)):
            if split_of.setdefault(person, split) != split:
                raise DataError(f"{root}/{file}: id {person} is in {split_of[person]} as well")
    return split_of


def _absent(
    found: Mapping[tuple[str, str], Mapping[str, PurePosixPath]], split_of: Mapping[str, str]
) -> list[str]:
    """Say which people of the official splits have no video, for every part there is."""
    notes = []
    for (part, compression), paths in sorted(found.items()):
        there = {name.partition("_")[0] for name in paths}
        notes += absent(split_of, there, f"the official splits ({part}, {compression})")
    return notes
