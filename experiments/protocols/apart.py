"""A test set is never what a checkpoint was trained on or chosen by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.manifest import read_manifest
from datamodules.split_csv import apply_split_csv
from datamodules.store.prepared import MANIFEST_NAME
from experiments.errors import UsageError
from experiments.strict_yaml import read_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datamodules.schema import VideoRecord
    from experiments.protocols.stores import Found

#: How each part of a run's data was used.
_USES = {"val": "chosen by", "train": "trained on"}


def own_videos(run: Path) -> list[VideoRecord]:
    """Read the videos of a run's own data, with its splits.

    Args:
        run: The run folder.

    Returns:
        All of them; nothing where its store cannot be reached.

    Raises:
        DataError: If the manifest or the table of splits is damaged.
    """
    config = read_yaml(run / "config.yaml") or {}
    data = config.get("data", {}).get("init_args", {})
    root = data.get("root")
    if not root or not (Path(root) / MANIFEST_NAME).is_file():
        return []
    records = read_manifest(Path(root) / MANIFEST_NAME)
    table = data.get("split_csv")
    return apply_split_csv(records, Path(table)) if table else records


def check_apart(run: Path, own: Sequence[VideoRecord], name: str, found: Found) -> None:
    """Refuse a test set that shares videos or people with the training or the validation.

    Args:
        run: The run folder.
        own: Its videos.
        name: Of the test set.
        found: Its videos.

    Raises:
        UsageError: If it does; names the first one.
    """
    for split, use in _USES.items():
        part = [record for record in own if record.split == split]
        files = {record.sha256 for record in part if record.sha256}
        groups = {group for record in part for group in record.group_ids}
        for video in found.videos:
            if video.sha256 in files:
                raise UsageError(
                    f"{run} was {use} {video.video_id}, which is in {name}: the {split} part of "
                    f"a run is no test set; leave its videos out of {found.root}"
                )
            shared = groups & set(video.group_ids)
            if shared:
                raise UsageError(
                    f"{run} was {use} videos of {min(shared)}, who is in {video.video_id} of "
                    f"{name}; test on other people"
                )


def trained_methods(own: Sequence[VideoRecord]) -> set[str]:
    """Name the forgeries a run was trained on.

    Args:
        own: Its videos.
    """
    return {record.method for record in own if record.split == "train" and record.method}
