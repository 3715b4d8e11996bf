"""What the readers of all data sets share: options, the search for folders, and the last step."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from datamodules.datasets.leaks import split_people
from datamodules.datasets.records import VIDEO_SUFFIXES, SourceVideo, source_folder
from datamodules.datasets.tables import with_splits
from datamodules.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from datamodules.datasets.records import SourceFolder
    from datamodules.storage.root import DataRoot

KeepApart = Literal["person", "footage", "video"]
_WEAKER = {
    "footage": "footage, not people: the same person may be in two splits",
    "video": "nothing but videos: the same person and the same footage may be in two splits",
}


@dataclass(frozen=True, kw_only=True)
class LayoutOptions:
    """What a user may say about the reading of a data set.

    Attributes:
        name: Of the data set in the manifest; that of the layout unless given.
        manifest: CSV file that describes the videos of a folder; layout `folder` only.
        split_file: CSV with the columns path and split; goes before all other splits.
        compression: Take only this one; all that are there unless given.
        subsets: Take only these parts, by the names that the layout gives them (methods,
            distortions, lists of videos); all of them unless given.
        keep_apart: What no two splits share: people; weaker, footage; or nothing, which keeps
            official splits just as they are, whatever they share.
        json: Folder of JSON files, or one of them; layout `deepfakebench` only.
        resplit: Make new splits and leave those of the data set aside; the same layout only.
        all_test: Put every video into test, as tests across data sets do.
    """

    name: str | None = None
    manifest: Path | None = None
    split_file: Path | None = None
    compression: str | None = None
    subsets: tuple[str, ...] = ()
    keep_apart: KeepApart = "person"
    json: Path | None = None
    resplit: bool = False
    all_test: bool = False

    @property
    def needs_split(self) -> bool:
        """Whether the data set has to say which video belongs to which split."""
        return not (self.all_test or self.split_file)


class Videos(NamedTuple):
    """What a reader found.

    Attributes:
        videos: All of them, also those of parts that the user did not ask for.
        notes: What to say about the reading, one line each.
        splits: Where the splits of the videos come from, if they have one.
    """

    videos: list[SourceVideo]
    notes: list[str]
    splits: str = "those of the data set"


def finish(
    root: DataRoot, options: LayoutOptions, dataset: str, found: Videos, has_val: bool = True
) -> SourceFolder:
    """Take what the user wants of a data set, split it without leaks, and make records of it.

    Args:
        root: Where the videos lie.
        options: Of the user's.
        dataset: Name of the data set unless the options give one.
        found: The videos, each with groups and footage; all of them with a split, if the data
            set has splits, or none.
        has_val: Whether the splits of the data set have a part to validate on; otherwise a part
            of train becomes one.

    Returns:
        The records and what to say about them.

    Raises:
        DataError: If nothing is left, a part is unknown, or the splits of a CSV leak.
    """
    notes = list(found.notes)
    videos = [_regrouped(video, options.keep_apart) for video in found.videos]
    if options.keep_apart != "person":
        notes.append(f"kept apart: {_WEAKER[options.keep_apart]}")
    origin = found.splits if all(video.split for video in videos) else ""
    if options.needs_split:
        # Before parts are chosen, so that they have the same people in every choice of parts.
        videos = _paired_within(split_people(videos, has_val, notes))
    videos = _chosen(videos, options)
    if options.all_test:
        origin = "every video is put into test"
        videos = [replace(video, split="test") for video in videos]
    elif options.split_file is not None:
        origin = f"those of {options.split_file}"
        videos = with_splits(videos, options.split_file)
    return source_folder(root, options.name or dataset, videos, notes, origin)


def _regrouped(video: SourceVideo, keep_apart: KeepApart) -> SourceVideo:
    """Let the groups of a video be what is to be kept apart."""
    if keep_apart == "person":
        return video
    return replace(video, groups=(video.footage if keep_apart == "footage" else str(video.path),))


def _paired_within(videos: Sequence[SourceVideo]) -> list[SourceVideo]:
    """Part a fake from a genuine video of another split: a pair is of one split."""
    split_of = {(video.dataset, str(video.path)): video.split for video in videos}
    return [
        video
        if split_of.get((video.dataset, video.paired_real)) == video.split
        else replace(video, paired_real="")
        for video in videos
    ]


def _chosen(videos: Sequence[SourceVideo], options: LayoutOptions) -> list[SourceVideo]:
    """Keep the compression and the parts that the user asked for; real videos always stay."""
    known = sorted({video.compression for video in videos if video.compression})
    wanted = options.compression
    if wanted is not None and wanted not in known:
        raise DataError(f"there is no compression {wanted!r}; there are: {_names(known)}")
    kept = [video for video in videos if wanted in (None, video.compression)]
    parts = sorted({video.method for video in kept if video.method})
    unknown = [name for name in options.subsets if name not in parts]
    if unknown:
        raise DataError(f"there is no part {unknown[0]!r}; there are: {_names(parts)}")
    if options.subsets:
        kept = [video for video in kept if not video.method or video.method in options.subsets]
    return kept


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def videos_below(root: DataRoot, folder: str) -> list[PurePosixPath]:
    """List the video files below a folder.

    Args:
        root: Of the data set.
        folder: Relative to it; the whole of it if empty.

    Returns:
        Sorted paths relative to the root; hidden files are none.
    """
    return [path for path in map(PurePosixPath, root.files(folder)) if is_video(path)]


def is_video(path: PurePosixPath) -> bool:
    """Tell whether a path is that of a video file, by its suffix; hidden files are none."""
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in VIDEO_SUFFIXES and not hidden


def missing(root: DataRoot, marker: str, rest: str, remedy: str) -> DataError:
    """Say that a folder or file of a layout is not there.

    Args:
        root: Of the data set.
        marker: A folder or file that every copy of the data set has, relative to the root.
        rest: What is looked for below it, or beside it.
        remedy: What to do about it.

    Returns:
        The error, to be raised; it names the folder below the root that holds the marker, if any.
    """
    for path in root.files():
        outer, inner, _ = f"/{path}/".partition(f"/{marker}/")
        if inner and outer:
            return DataError(f"{root} has no {marker}, but {root}{outer} has; give that folder")
    return DataError(f"{root} has no {marker}{rest}; {remedy}")


def strange(paths: Iterable[object], what: str = "name fits no rule of this layout") -> list[str]:
    """Say how many files were left out.

    Args:
        paths: Of the files.
        what: Why.

    Returns:
        One line; none if there is no such file.
    """
    names = sorted(map(str, paths))
    return [f"{len(names)} file(s) left out, whose {what}, as {names[0]}"] if names else []


def absent(listed: Iterable[str], there: Iterable[str], where: str) -> list[str]:
    """Say how many videos of a list are not there.

    Args:
        listed: What the list names.
        there: What is there.
        where: The list.

    Returns:
        One line; none if all are there.
    """
    gone = sorted(set(listed) - set(there))
    if not gone:
        return []
    return [f"{len(gone)} video(s) of {where} are not there, the first is {gone[0]}"]


def read_json(root: DataRoot, path: str) -> Any:
    """Read a JSON file of a data set.

    Args:
        root: Of the data set.
        path: Relative to it.

    Returns:
        Its contents.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return json.loads(root.local(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{root}/{path} cannot be read as JSON ({error})") from error


def read_lines(root: DataRoot, path: str) -> list[tuple[str, str]]:
    """Read a list of a data set.

    Args:
        root: Of the data set.
        path: Relative to it.

    Returns:
        (file:line, text) of every line that is not empty, without spaces around it.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        text = root.local(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{root}/{path} cannot be read ({error})") from error
    lines = enumerate(map(str.strip, text.splitlines()), start=1)
    return [(f"{root}/{path}:{number}", line) for number, line in lines if line]
