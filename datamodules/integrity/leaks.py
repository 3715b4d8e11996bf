"""Which videos hang together, and whether what hangs together lies in one split.

Videos are tied by a shared identity or source (`group_ids`), by being a fake and the real video of
its footage (`paired_real`), and by being the very same file (`sha256`). What is tied, directly or
through others, is a component; it may lie in one split only.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datamodules.integrity.findings import Finding, error, warning
from datamodules.schema import SPLITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from datamodules.schema import VideoRecord

_CHECK = "leak"
_KINDS = {"group": "group", "pair": "footage of", "file": "the same file"}


@dataclass(frozen=True)
class Link:
    """A tie between videos.

    Attributes:
        kind: `group`, `pair` or `file`.
        name: The group, the real video of the pair, or the hash of the file.
        videos: Ids of the tied videos by split.
    """

    kind: str
    name: str
    videos: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Component:
    """Videos that are tied, directly or through others.

    Attributes:
        videos: Their ids by split.
        links: The ties that reach from one split into another: what to mend.
    """

    videos: dict[str, tuple[str, ...]]
    links: tuple[Link, ...]


def components(records: Sequence[VideoRecord]) -> list[list[int]]:
    """Collect videos that are tied.

    Args:
        records: The videos of one manifest.

    Returns:
        Positions in `records`, in order; components by their first video.
    """
    parent = list(range(len(records)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for tied in _ties(records).values():
        for i in tied[1:]:
            first, second = sorted((find(tied[0]), find(i)))
            parent[second] = first
    parts: dict[int, list[int]] = defaultdict(list)
    for i in range(len(records)):
        parts[find(i)].append(i)
    return list(parts.values())


def leaks(records: Sequence[VideoRecord], parts: Iterable[Sequence[int]]) -> list[Component]:
    """Find components that lie in several splits.

    Args:
        records: The videos.
        parts: What `components` gave for them.

    Returns:
        The leaking components, each with the ties that leak.
    """
    spread = [part for part in parts if len({records[i].split for i in part}) > 1]
    home = {i: number for number, part in enumerate(spread) for i in part}
    links: dict[int, list[Link]] = defaultdict(list)
    for (kind, name), tied in sorted(_ties(records).items()):
        if len({records[i].split for i in tied}) > 1:
            links[home[tied[0]]].append(Link(kind, name, _by_split(records, tied)))
    return [
        Component(_by_split(records, part), tuple(links[number]))
        for number, part in enumerate(spread)
    ]


def leak_findings(records: Sequence[VideoRecord], found: Iterable[Component]) -> list[Finding]:
    """Give one line for each leaking tie, and for each file that is there twice.

    Args:
        records: The videos.
        found: What `leaks` gave for them.

    Returns:
        Errors for ties between splits and for a file of two labels; warnings for a file that is
        twice in one split.
    """
    findings = [
        error(_CHECK, _told(link, component), *_names(link.videos))
        for component in found
        for link in component.links
    ]
    for (kind, name), tied in sorted(_ties(records).items()):
        if kind != "file":
            continue
        ids = sorted(records[i].video_id for i in tied)
        if len({records[i].label for i in tied}) > 1:
            findings.append(error("labels", f"the same file ({name[:12]}) as real and fake", *ids))
        elif len({records[i].split for i in tied}) == 1:
            findings.append(warning("duplicate", f"the same file ({name[:12]}) twice", *ids))
    return findings


def _ties(records: Sequence[VideoRecord]) -> dict[tuple[str, str], list[int]]:
    """List the videos behind every tie of at least two: (kind, name) -> positions."""
    ties: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        for group in dict.fromkeys(record.group_ids):
            ties["group", group].append(i)
        if record.sha256:
            ties["file", record.sha256].append(i)
        ties["pair", record.paired_real or record.video_id].append(i)
    return {tie: tied for tie, tied in ties.items() if len(tied) > 1}


def _by_split(records: Sequence[VideoRecord], part: Iterable[int]) -> dict[str, tuple[str, ...]]:
    """Give the ids of videos by split, in the usual order of the splits."""
    held: dict[str, list[str]] = defaultdict(list)
    for i in part:
        held[records[i].split].append(records[i].video_id)
    known = [split for split in SPLITS if split in held]
    others = sorted(set(held) - set(SPLITS))
    return {split: tuple(sorted(held[split])) for split in [*known, *others]}


def _told(link: Link, component: Component) -> str:
    """Say which tie lies in which splits, and how much hangs on it."""
    name = link.name[:12] if link.kind == "file" else link.name
    where = " and ".join(f"{split} ({len(ids)})" for split, ids in link.videos.items())
    tied, whole = (sum(map(len, videos.values())) for videos in (link.videos, component.videos))
    more = f", {whole} videos are tied to it through others" if whole > tied else ""
    return f"{_KINDS[link.kind]} {name} lies in {where}{more}"


def _names(videos: dict[str, tuple[str, ...]]) -> list[str]:
    """Name the videos, one of each split first, so that a short line shows what leaks."""
    firsts = [f"{ids[0]} ({split})" for split, ids in videos.items()]
    return firsts + [f"{name} ({split})" for split, ids in videos.items() for name in ids[1:]]
