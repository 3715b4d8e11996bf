"""Splits of which no two share a person: made, or taken from a data set and mended by leaving out.

Official splits stay as they are in their test part. What shares a person (or footage) with it is
left out of the rest, and said. Where a data set has no split, whole connected components are
placed; where swaps tie everybody to everybody, people are placed, and the videos that show two
people of different splits are left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from datamodules.datasets.naming import short_hash
from datamodules.datasets.records import FRACTIONS
from datamodules.manifest import split_groups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datamodules.datasets.records import SourceVideo
    from datamodules.schema import Split

#: Later ones give way: the test part of a data set is what results are compared on.
_RANKS: Sequence[Split] = ("test", "val", "train")
#: Share of an official training part that becomes val where the data set has none. [ours]
VAL_SHARE = 0.15
#: How much of what is meant for the other splits the largest one may take, because components are
#: large, before people are dealt out instead. [ours]
MAX_EXCESS = 0.5


def split_people(
    videos: Sequence[SourceVideo], has_val: bool, notes: list[str]
) -> list[SourceVideo]:
    """Give every video a split, so that no two splits share a group.

    Args:
        videos: With groups; either all with the split of their data set, or none.
        has_val: Whether given splits have a part to validate on; otherwise one is made of train.
        notes: Gets lines on what was made and left out.

    Returns:
        The videos that stay, each with a split; as they were if only some have groups or a
        split, which is for the caller to judge.
    """
    given = [video for video in videos if video.split]
    if not all(video.groups for video in videos) or 0 < len(given) < len(videos):
        return list(videos)
    if not given:
        return _placed(videos, FRACTIONS, "splits", notes)
    kept = _without_leaks(videos, notes)
    if has_val:
        return kept
    rest = [video for video in kept if video.split == "train"]
    shares: Mapping[Split, float] = {"train": 1 - VAL_SHARE, "val": VAL_SHARE}
    carved = _placed(rest, shares, "val, which the data set does not have", notes) if rest else []
    return [video for video in kept if video.split == "test"] + carved


def _without_leaks(videos: Sequence[SourceVideo], notes: list[str]) -> list[SourceVideo]:
    """Leave out what shares a group with a split that goes before its own."""
    splits_of = defaultdict(set)
    for video in videos:
        for group in video.groups:
            splits_of[group].add(video.split)
    first = {
        group: next(split for split in _RANKS if split in splits)
        for group, splits in splits_of.items()
    }
    kept, lost = [], Counter[str]()
    for video in videos:
        ahead = [g for g in video.groups if _RANKS.index(first[g]) < _rank(video)]
        if ahead:
            lost[video.split] += 1
        else:
            kept.append(video)
    notes += [
        f"{count} video(s) of the official {split} part are left out: they show people (or "
        "footage) of a part that is tested or validated on"
        for split, count in lost.items()
    ]
    return kept


def _rank(video: SourceVideo) -> int:
    return [str(split) for split in _RANKS].index(video.split)


def _placed(
    videos: Sequence[SourceVideo], shares: Mapping[Split, float], what: str, notes: list[str]
) -> list[SourceVideo]:
    """Place whole components, or people where one component is too large."""
    groups = [video.groups for video in videos]
    splits = split_groups(groups, [video.label for video in videos], shares, seed=0)
    if max(Counter(splits).values()) <= _most(shares) * len(videos):
        notes.append(f"{what}: made here, by people or footage")
        return [replace(v, split=split) for v, split in zip(videos, splits, strict=True)]
    people = sorted({name for names in groups for name in names}, key=short_hash)
    split_of = _deal(people, shares)
    kept = [
        replace(video, split=split_of[video.groups[0]])
        for video in videos
        if len({split_of[name] for name in video.groups}) == 1
    ]
    notes.append(
        f"{what}: made here, by dealing out {len(people)} people, as swaps tie most of them; "
        f"{len(videos) - len(kept)} video(s) that show people of two splits are left out"
    )
    return kept


def _most(shares: Mapping[Split, float]) -> float:
    """Tell the largest share that one split may take before people are dealt out."""
    largest = max(shares.values())
    return largest + (1 - largest) * MAX_EXCESS


def _deal(people: Sequence[str], shares: Mapping[Split, float]) -> dict[str, Split]:
    """Give each person a split: the first ones test, then val, the rest train."""
    split_of: dict[str, Split] = dict.fromkeys(people, "train")
    start = 0
    for split in ("test", "val"):
        count = max(1, round(shares.get(split, 0.0) * len(people))) if split in shares else 0
        for name in people[start : start + count]:
            split_of[name] = split
        start += count
    return split_of
