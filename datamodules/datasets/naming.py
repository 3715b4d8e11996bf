"""What the names of video files tell: people, compression, the genuine video behind a fake."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath

#: Endings of names, or folders, that tell the compression (FaceForensics++ and its relatives).
_COMPRESSIONS = ("c0", "c23", "c40", "raw")
_COMPRESSION_ENDING = re.compile(rf"_({'|'.join(_COMPRESSIONS)})$")
#: Names that tell who is seen: the person, then in a fake the donor or driver of the face.
_PEOPLE = (
    re.compile(r"(\d{3})(?:_(\d{3}))?"),  # FaceForensics++: 033, 033_097
    re.compile(r"(id\d+)(?:_(id\d+))?_\d+"),  # Celeb-DF: id0_0007, id0_id16_0007
    re.compile(r"(\d\d)(?:_(\d\d))?__.+"),  # DeepFakeDetection: 01__walk, 01_02__walk__AB12
)
#: File systems take 255 bytes; a track adds its own name below. [ours]
_MAX_NAME_BYTES = 200


def compression_of(path: PurePosixPath) -> str | None:
    """Read the compression off a path.

    Args:
        path: Of the video, relative to its root.

    Returns:
        For example `c23`; None where the path does not tell.
    """
    ending = _COMPRESSION_ENDING.search(path.stem)
    if ending:
        return ending[1]
    return next((part for part in reversed(path.parts[:-1]) if part in _COMPRESSIONS), None)


def people_of(path: PurePosixPath) -> tuple[str, ...]:
    """Read off a name who is seen in a video, and whose face was put in.

    Args:
        path: Of the video.

    Returns:
        The person, and in a fake the other one behind it; empty where the name does not tell.
    """
    stem = _COMPRESSION_ENDING.sub("", path.stem)
    for pattern in _PEOPLE:
        match = pattern.fullmatch(stem)
        if match:
            return tuple(name for name in match.groups() if name)
    return ()


def plain_name(path: PurePosixPath) -> str:
    """Make a name of one part that can be a folder.

    Args:
        path: Of the video, below `real/` or `fake/<method>/`.

    Returns:
        Folders joined to the stem by `__`; an overlong name ends in a hash.
    """
    name = "__".join(path.with_suffix("").parts)
    if len(name.encode()) <= _MAX_NAME_BYTES:
        return name
    start = name.encode()[: _MAX_NAME_BYTES - 17].decode(errors="ignore")
    return f"{start}~{short_hash(name)}"


def short_hash(text: str) -> str:
    """Name a text by 16 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
