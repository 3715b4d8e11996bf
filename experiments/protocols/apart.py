"""A test set is never what a checkpoint was trained on or chosen by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from callbacks.seen import Seen, read_seen, seen_in
from datamodules.manifest import read_manifest
from datamodules.split_csv import apply_split_csv, without_methods
from datamodules.store.prepared import MANIFEST_NAME
from experiments.errors import UsageError
from experiments.protocols.stores import Found
from experiments.strict_yaml import read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datamodules.schema import VideoRecord

#: How each part of a run's data was used.
USES = {"train": "trained on", "val": "chosen by"}


def seen_by(run: Path) -> dict[str, Seen] | None:
    """Tell which videos a run was trained on and chosen by.

    Args:
        run: The run folder.

    Returns:
        By split, as the run remembers it, or as the store that it names has it; None where neither
        says anything.

    Raises:
        DataError: If the manifest or the table of splits is damaged.
    """
    remembered = read_seen(run)
    if remembered is not None:
        return remembered
    records = _videos(_own_data(run))
    return seen_in(records) if records else None


def check_apart(run: Path, seen: Mapping[str, Seen], name: str, found: Found) -> None:
    """Refuse a test set that shares videos or people with the training or the validation.

    Args:
        run: The run folder.
        seen: What `seen_by` found of it.
        name: Of the test set.
        found: Its videos.

    Raises:
        UsageError: If it does; names the first one.
    """
    for split, use in USES.items():
        for video in found.videos:
            if seen[split].has_file(video):
                raise UsageError(
                    f"{run} was {use} {video.video_id}, which is in {name}: the {split} part of "
                    f"a run is no test set; leave its videos out of {found.root}"
                )
            shared = seen[split].shared_groups(video)
            if shared:
                raise UsageError(
                    f"{run} was {use} videos of {shared[0]}, who is in {video.video_id} of "
                    f"{name}; test on other people"
                )


def check_test(run: Path, data: Mapping[str, Any]) -> str:
    """Refuse a test of a run on videos that it was trained on or chosen by.

    Args:
        run: The run folder.
        data: Settings of the data that it is to be tested on; those of its own fit pass.

    Returns:
        What could not be checked, as a line; empty where all was.

    Raises:
        UsageError: If the test part shares a video or a person with its training or validation.
        DataError: If a manifest or a table of splits is damaged.
    """
    if _place(data) == _place(_own_data(run)):
        return ""
    seen = seen_by(run)
    if seen is None:
        return f"{run}: nobody knows what it was trained on, and whether these are other videos"
    tests = tuple(video for video in _videos(data) if video.split == "test")
    check_apart(run, seen, str(data.get("set_name")), Found(Path(str(data.get("root"))), tests))
    return ""


def _place(data: Mapping[str, Any]) -> list[Path | None]:
    names = ("root", "split_csv", "data_dir")
    return [Path(str(data[name])).resolve() if data.get(name) else None for name in names]


def _own_data(run: Path) -> dict[str, Any]:
    data = (read_yaml(run / "config.yaml") or {}).get("data") or {}
    return data.get("init_args") or {}


def _videos(data: Mapping[str, Any]) -> list[VideoRecord]:
    """Read the videos of some data, with its splits; nothing where the store is gone."""
    root = data.get("root")
    if not root or not (Path(root) / MANIFEST_NAME).is_file():
        return []
    records = read_manifest(Path(root) / MANIFEST_NAME)
    table = data.get("split_csv")
    if table:
        records = apply_split_csv(records, Path(table))
    return without_methods(records, data.get("exclude_methods") or ())
