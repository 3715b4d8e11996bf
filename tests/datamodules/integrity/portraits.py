"""A prepared store in which everybody looks different, with the raw files it says it is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.integrity.card import write_data_card
from datamodules.manifest import write_manifest
from datamodules.schema import SPLITS, VideoRecord
from datamodules.store.prepared import MANIFEST_NAME
from datamodules.video.reader import file_sha256
from tests.support.stores import portrait, write_store, write_track
from tests.support.videos import write_video

FRAMES = 10


def write_portraits(root: Path, raw: Path | None = None) -> list[VideoRecord]:
    """Write two videos of each class for train and one for val and test each.

    Args:
        root: The store.
        raw: Where the raw files go, if any.

    Returns:
        The records.
    """
    counts = {(split, label): 2 if split == "train" else 1 for split in SPLITS for label in (0, 1)}
    records = write_store(root, counts, FRAMES)
    if raw is not None:
        (raw / "toy/real").mkdir(parents=True)
        (raw / "toy/fake").mkdir()
        for number, record in enumerate(records):
            # Other lengths of key frame distances make other bytes.
            path = write_video(raw / record.path, FRAMES, gop=number + 1)
            records[number] = replace(record, sha256=file_sha256(path))
    for seed, record in enumerate(records):
        draw_track(root, record, seed)
    rewrite(root, records)
    write_data_card(root)
    return records


def draw_track(
    root: Path, record: VideoRecord, seed: int, draw: Callable[..., Any] = portrait
) -> None:
    """Write the track of a video."""
    write_track(root / record.tracks[0], FRAMES, seed=seed, draw=draw, source_sha256=record.sha256)


def rewrite(root: Path, records: Sequence[VideoRecord]) -> None:
    """Write the manifest."""
    write_manifest(records, root / MANIFEST_NAME)


def change(root: Path, records: Sequence[VideoRecord], number: int, **values: Any) -> VideoRecord:
    """Change one record of the manifest."""
    changed = replace(records[number], **values)
    rewrite(root, [*records[:number], changed, *records[number + 1 :]])
    return changed
