"""Where the frames that a JSON file lists lie below a root, which may be any of several folders.

The files of DeepfakeBench were written on other machines: their paths begin somewhere, and the
root that a user gives may be the folder of all data sets or one inside.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from datamodules.errors import DataError
from datamodules.video.frames_reader import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from datamodules.storage.root import DataRoot

_Listed: TypeAlias = "tuple[PurePosixPath, Sequence[str]]"
#: Folders that have to be left of a path: `fake/frames/<video>`. With fewer, frames of one method
#: could be taken for those of another. [ours]
_MIN_FOLDERS = 3
#: Videos tried to find where the frames of a folder lie, spread over it. [ours]
_MAX_TRIED = 16


@dataclass(frozen=True)
class FoundFrames:
    """The frames of one video that are there.

    Attributes:
        path: The folder of the frames, or the only frame of several pictures in a folder.
        names: The frames, if the folder holds other pictures as well; otherwise empty.
        num_missing: Frames that are listed, but not there.
    """

    path: PurePosixPath
    names: tuple[str, ...]
    num_missing: int


class FrameFinder:
    """Finds listed frames; looks at each folder of videos once.

    Args:
        root: Where the frames lie.
    """

    def __init__(self, root: DataRoot) -> None:
        self._root = root
        self._pictures: dict[PurePosixPath, dict[PurePosixPath, set[str]]] = {}
        self._place_of: dict[PurePosixPath, PurePosixPath | None] = {}

    def locate(self, videos: Iterable[_Listed]) -> None:
        """Find out how the paths of a list begin below the root.

        Args:
            videos: Folder and frames of every video.

        Raises:
            DataError: If two folders of the list would be the same one below the root.
        """
        below = defaultdict(list)
        for video in videos:
            below[video[0].parent].append(video)
        for shelf, its in below.items():
            if shelf not in self._place_of:
                tried = its[:: max(1, len(its) // _MAX_TRIED)]
                self._place_of[shelf] = self._place(shelf, tried)
        owner: dict[PurePosixPath, PurePosixPath] = {}
        for shelf, place in self._place_of.items():
            if place is not None and not _alike(owner.setdefault(place, shelf), shelf):
                raise DataError(
                    f"{self._root}: {owner[place]} and {shelf} would both be {place}; give the "
                    f"folder that holds {shelf.parts[0]}"
                )

    def find(self, folder: PurePosixPath, listed: Sequence[str]) -> FoundFrames | None:
        """Look for the frames of one video.

        Args:
            folder: As listed; `locate` knows it.
            listed: Names of the frames.

        Returns:
            Those that are there; None if none is.
        """
        place = self._place_of[folder.parent]
        if place is None:
            return None
        folder = place / folder.name
        there = self._below(place).get(folder, set())
        names = sorted(there.intersection(listed))
        if not names:
            return None
        num_missing = len(listed) - len(names)
        if len(names) == len(there):
            return FoundFrames(folder, (), num_missing)
        if len(names) == 1:
            return FoundFrames(folder / names[0], (), num_missing)
        return FoundFrames(folder, tuple(names), num_missing)

    def _place(self, shelf: PurePosixPath, videos: Sequence[_Listed]) -> PurePosixPath | None:
        """Leave out as few leading folders as have to be for some frame to be there."""
        for start in range(max(1, len(shelf.parts) - _MIN_FOLDERS + 2)):
            place = PurePosixPath(*shelf.parts[start:])
            for folder, names in videos:
                for name in (names[0], names[-1]):
                    if self._root.size(str(place / folder.name / name)) >= 0:
                        return place
        return None

    def _below(self, place: PurePosixPath) -> dict[PurePosixPath, set[str]]:
        """List all pictures below a folder of videos, by the folder that they are in."""
        if place not in self._pictures:
            found: dict[PurePosixPath, set[str]] = defaultdict(set)
            for path in map(PurePosixPath, self._root.files(str(place))):
                if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith("."):
                    found[path.parent].add(path.name)
            self._pictures[place] = found
        return self._pictures[place]


def _alike(path: PurePosixPath, other: PurePosixPath) -> bool:
    """Tell whether two paths differ in leading folders alone, as two JSON files may write them."""
    common = min(len(path.parts), len(other.parts))
    return path.parts[-common:] == other.parts[-common:]
