"""Which videos a run was trained on and chosen by, so that no test uses them.

The run folder remembers them, because its store may be gone or on another machine. Imports no
torch, so that programs that only check need none.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from callbacks.provenance import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from datamodules.schema import VideoRecord

SEEN_NAME = "seen.json"
#: Parts of the data by which a run comes to be.
SEEN_SPLITS = ("train", "val")
#: Hexadecimal digits kept of a digest: among a million videos two are alike by chance with a
#: probability of 3e-8.
_DIGITS = 16


@dataclass(frozen=True)
class Seen:
    """Videos of one part. People are not named: digests are enough to find them again.

    Attributes:
        files: Starts of the SHA-256 of their files.
        groups: Digests of their identities and sources.
        methods: Forgeries among them.
    """

    files: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()

    @staticmethod
    def of(records: Iterable[VideoRecord]) -> Seen:
        """Remember videos."""
        kept = list(records)
        return Seen(
            frozenset(record.sha256[:_DIGITS] for record in kept if record.sha256),
            frozenset(_digest(group) for record in kept for group in record.group_ids),
            frozenset(record.method for record in kept if record.label == 1 and record.method),
        )

    def has_file(self, record: VideoRecord) -> bool:
        """Tell whether a video's file is among them."""
        return record.sha256[:_DIGITS] in self.files if record.sha256 else False

    def shared_groups(self, record: VideoRecord) -> list[str]:
        """Name the identities and sources of a video that are among them."""
        return sorted(group for group in record.group_ids if _digest(group) in self.groups)


def seen_in(records: Iterable[VideoRecord]) -> dict[str, Seen]:
    """Remember the videos of a manifest, by `SEEN_SPLITS`.

    Args:
        records: All of them.
    """
    kept = list(records)
    return {split: Seen.of(r for r in kept if r.split == split) for split in SEEN_SPLITS}


def remember_seen(run: Path, records: Iterable[VideoRecord]) -> None:
    """Write what a training sees into its run folder, beside what it saw before a break.

    Args:
        run: The run folder.
        records: All videos of its data.

    Raises:
        OSError: If the disk refuses it.
    """
    before = read_seen(run) or {}
    content = {}
    for split, now in seen_in(records).items():
        old = asdict(before.get(split, Seen()))
        content[split] = {name: sorted(values | old[name]) for name, values in asdict(now).items()}
    write_whole(run / SEEN_NAME, json.dumps(content, indent=0) + "\n")


def read_seen(run: Path) -> dict[str, Seen] | None:
    """Read what a run was trained on and chosen by, by `SEEN_SPLITS`.

    Args:
        run: The run folder.

    Returns:
        None where the run remembers nothing: it is older, or its file is damaged.
    """
    try:
        content = json.loads((run / SEEN_NAME).read_text(encoding="utf-8"))
        return {
            split: Seen(**{name: frozenset(values) for name, values in content[split].items()})
            for split in SEEN_SPLITS
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
