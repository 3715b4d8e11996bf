"""The JSON files of DeepfakeBench and DF40: which videos there are, by label, split and frames."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from datamodules.datasets.bench_labels import is_known_label, label_of
from datamodules.errors import DataError
from datamodules.schema import SPLITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_COMPRESSIONS = ("c23", "c40", "raw", "c0")
#: What the loaders of DeepfakeBench take unless told otherwise.
_DEFAULT_COMPRESSION = "c23"
_C40 = "_c40"
#: Folders of the shortest path of a frame: `<data set>/fake/<picture>`.
_MIN_FOLDERS = 2
_DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass(frozen=True)
class BenchVideo:
    """One video of a JSON file.

    Attributes:
        key: Its label key.
        label: 0 real, 1 fake.
        method: Forgery method; None for a real video.
        name: Of the video.
        compression: For example `c23`, or empty.
        splits: All splits that list it.
        folder: Of its frames, with slashes, as written otherwise.
        names: Of its frames.
    """

    key: str
    label: int
    method: str | None
    name: str
    compression: str
    splits: tuple[str, ...]
    folder: PurePosixPath
    names: tuple[str, ...]


def read_bench_json(
    file: Path, name: str, compression: str | None, notes: list[str]
) -> list[BenchVideo]:
    """Read a JSON file.

    Args:
        file: `<name>.json`, or that of the plain name for a name that ends in `_c40`.
        name: Of the subset.
        compression: Take this one where there are several; `c23` unless given, as the bench does.
        notes: Gets lines on what is unusual.

    Returns:
        The videos, each once, with all splits that list it.

    Raises:
        DataError: If the file cannot be read, is not as described, or has a label that says
            neither real nor fake.
    """
    labels = _content(file, name)
    wanted = compression or ("c40" if name.endswith(_C40) else None)
    listed: dict[tuple[str, str, str, PurePosixPath], tuple[list[str], list[str]]] = {}
    odd: Counter[str] = Counter()
    for key in labels:
        if label_of(key) is None:
            raise DataError(f"{file}: label {key!r} says neither real nor fake by its end")
        if not is_known_label(key):
            notes.append(f"{name}: label {key} is not known, and taken by its end")
        for split, level, video, folder, names in _entries(labels[key], wanted, odd, key):
            splits, known = listed.setdefault((key, level, video, folder), ([], []))
            splits.append(split)
            known += names
    notes += [f"{name}: {count} x {what}" for what, count in sorted(odd.items())]
    if not listed:
        raise DataError(f"{file} lists no video{_with(wanted)}")
    return [_video(where, *found) for where, found in listed.items()]


def _with(compression: str | None) -> str:
    return f" of compression {compression}" if compression else ""


def _content(file: Path, name: str) -> dict[str, Any]:
    """Read the part of a file below the name of its data set."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as JSON ({error})") from error
    names = (name, name.removesuffix(_C40))
    inner = next((content[n] for n in names if n in content), None) if _is_map(content) else None
    if inner is None:
        found = ", ".join(list(content)[:3]) if _is_map(content) else type(content).__name__
        raise DataError(f"{file} has no top-level key {names[-1]!r} (it has: {found})")
    if not _is_map(inner) or not inner:
        raise DataError(f"{file}: {name} holds no labels")
    return dict(inner)


def _is_map(value: object) -> bool:
    return isinstance(value, dict)


def _entries(
    label: Any, compression: str | None, odd: Counter[str], key: str
) -> Iterator[tuple[str, str, str, PurePosixPath, list[str]]]:
    """Give split, compression, name, folder and frames of every video of a label."""
    for split, videos in label.items() if _is_map(label) else ():
        if split not in SPLITS:
            odd[f"split {split!r} of {key} is left out"] += 1
            continue
        level, videos = _level(videos, compression)
        if not _is_map(videos):
            odd[f"{split} of {key} is malformed and left out"] += 1
            continue
        for video, entry in videos.items():
            frames = _frames(entry)
            if len(frames) == 1:
                yield split, level, str(video), *next(iter(frames.items()))
            elif frames:
                odd[f"a video of {key} has frames in several folders and is left out"] += 1
            else:
                odd[f"a video of {key} ({split}) lists no frame and is left out"] += 1


def _level(videos: Any, compression: str | None) -> tuple[str, Any]:
    """Go one level down where videos are listed by compression."""
    if not _is_map(videos) or not videos or not all(name in _COMPRESSIONS for name in videos):
        return "", videos
    level = compression or (_DEFAULT_COMPRESSION if _DEFAULT_COMPRESSION in videos else "")
    level = level or next(iter(videos))
    return level, videos.get(level, {})


def _frames(entry: Any) -> dict[PurePosixPath, list[str]]:
    """Read the frames of an entry, by folder; there may be millions, in few folders each."""
    frames = entry.get("frames") if _is_map(entry) else None
    names = defaultdict(list)
    for frame in frames if isinstance(frames, list) else ():
        if isinstance(frame, str):
            folder, _, name = frame.replace("\\", "/").rpartition("/")
            # Most videos have the same names: 000.png and so on.
            names[folder].append(sys.intern(name))
    paths = {plain_path(folder): found for folder, found in names.items()}
    return {path: found for path, found in paths.items() if len(path.parts) >= _MIN_FOLDERS}


def plain_path(text: str) -> PurePosixPath:
    r"""Read a path of either system.

    Args:
        text: Such as `.\datasets\UADFV\fake\frames\0000_fake\000.png`.

    Returns:
        With slashes; without drive, leading dots and the root.
    """
    path = PurePosixPath(_DRIVE.sub("", text.replace("\\", "/")))
    return PurePosixPath(*(part for part in path.parts if part not in ("/", ".", "..")))


def _video(
    where: tuple[str, str, str, PurePosixPath], splits: Sequence[str], names: Sequence[str]
) -> BenchVideo:
    key, level, name, folder = where
    label, method = label_of(key) or (1, key)
    unique = tuple(dict.fromkeys(names))
    return BenchVideo(key, label, method, name, level, tuple(dict.fromkeys(splits)), folder, unique)
