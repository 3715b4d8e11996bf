"""DeepFakeDetection (DFD), which comes with FaceForensics++.

    <root>/original_sequences/actors/<c>/videos/01__exit_phone_room.mp4                     genuine
    <root>/manipulated_sequences/DeepFakeDetection/<c>/videos/01_02__exit_..__YVGY8LOK.mp4  forged

<c> is raw (or c0), c23 or c40; all that are there are taken, or one by --compression. A forged
video a_b__scene shows actor a in that scene with the face of b; it belongs to both, and to the
genuine video a__scene. DFD has no official split, and swaps tie its 28 actors to one another. The
split here goes by the number of the actor: of every seven, two test and one validates. Videos that
show actors of two splits are left out and counted. --all-test keeps every video, as tests across
data sets do.

Dufour and Gully, Google AI blog, 2019.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from datamodules.datasets.adapter import Videos, finish, missing, strange
from datamodules.datasets.ffpp import tree_part, tree_videos
from datamodules.datasets.records import SourceVideo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import PurePosixPath

    from datamodules.datasets.adapter import LayoutOptions
    from datamodules.datasets.records import SourceFolder
    from datamodules.schema import Split
    from datamodules.storage.root import DataRoot

METHOD = "DeepFakeDetection"
_NAME = re.compile(r"(\d\d)(?:_(\d\d))?__(.+?)(?:__([A-Z0-9]+))?")


def split_of_actor(actor: int) -> Split:
    """Deal out the actors by their numbers: of every seven, two to test and one to val.

    The rule depends on nothing but the number, so that parts of the data set, and other
    compressions, are split in the same way. [ours]

    Args:
        actor: Number of the actor, from 1 on.

    Returns:
        The split: 16 actors train, 4 validate, 8 test.
    """
    place = actor % 7
    return "test" if place in (0, 3) else "val" if place == 5 else "train"


def read_dfd(root: DataRoot, options: LayoutOptions) -> SourceFolder:
    """Read DeepFakeDetection; see `layouts.Reader`."""
    paths = [path for path in tree_videos(root) if path.parts[1] in ("actors", METHOD)]
    named = {
        path: match for path in paths if tree_part(path) and (match := _NAME.fullmatch(path.stem))
    }
    reals = {
        (path.parts[2], path.stem): path for path in named if path.parts[0] == "original_sequences"
    }
    if not reals:
        raise missing(
            root,
            "original_sequences/actors",
            "/<raw, c23 or c40>/videos/*.mp4",
            "give the folder that the FaceForensics++ download script made, with "
            "DeepFakeDetection_original in it",
        )
    odd = [path for path in paths if path not in named and "masks" not in path.parts]
    notes = strange(odd)
    videos = [_video(path, match, reals) for path, match in named.items()]
    if options.needs_split and options.keep_apart == "person":
        videos = _with_split(videos, notes)
    origin = "by the numbers of the actors, as the data set has none"
    return finish(root, options, "dfd", Videos(videos, notes, origin))


def _video(
    path: PurePosixPath, name: re.Match[str], reals: Mapping[tuple[str, str], PurePosixPath]
) -> SourceVideo:
    """Describe one video."""
    actor, donor, scene, _ = name.groups()
    footage = f"{actor}__{scene}" if donor else path.stem
    is_fake = path.parts[0] == "manipulated_sequences"
    where = tree_part(path)
    return SourceVideo(
        path=path,
        label=int(is_fake),
        method=METHOD if is_fake else None,
        name=path.stem,
        compression=where[1] if where else "",
        groups=tuple(f"dfd/{number}" for number in (actor, donor) if number),
        paired_real=str(reals.get((path.parts[2], footage), "")) if is_fake else "",
        footage=f"dfd/{footage}",
    )


def _with_split(videos: list[SourceVideo], notes: list[str]) -> list[SourceVideo]:
    """Split by actors; leave out what shows actors of two splits."""
    kept = []
    for video in videos:
        splits = {split_of_actor(int(group.rpartition("/")[2])) for group in video.groups}
        if len(splits) == 1:
            kept.append(replace(video, split=splits.pop()))
    notes.append(f"{len(videos) - len(kept)} video(s) that show actors of two splits are left out")
    return kept
