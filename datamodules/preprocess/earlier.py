"""What an earlier run left in a store: whether this one may go on in it, and what still holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from datamodules.errors import DataError
from datamodules.integrity.card import OPTION_NAMES
from datamodules.preprocess.work import root_of
from datamodules.store.prepared import INFO_NAME, MANIFEST_NAME
from datamodules.video.reader import file_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datamodules.preprocess.prepare import PrepareOptions
    from datamodules.storage.output import OutputRoot
    from datamodules.storage.root import DataRoot

#: Folder of the results of single videos.
LEDGER_NAME = "ledger"


def check_store(
    out: OutputRoot, raw: DataRoot, options: PrepareOptions, version: str, redo: bool
) -> None:
    """Refuse a place that is not ours, or was made otherwise.

    Args:
        out: The store.
        raw: The raw videos.
        options: How to prepare.
        version: Of the face backend.
        redo: Whether other options may take the place of those of before.

    Raises:
        DataError: Names what differs.
    """
    if f"{out}/".startswith(f"{raw}/"):
        raise DataError(
            f"{out} lies in the folder of the raw videos, {raw}; give a place outside it "
            "for the prepared ones"
        )
    made = _made(out)
    if made is None:
        if any(not path.startswith(f"{LEDGER_NAME}/") for path in out.files()):
            raise DataError(f"{out} is not empty and no prepared folder; give another one")
        return
    made_by, backend = f"{made['backend']} {made['backend_version']}", options.backend
    if made_by != f"{backend} {version}":
        raise DataError(
            f"{out} was made with the face backend {made_by}, not {backend} {version}; "
            "they are never mixed: give another folder, or remove this one"
        )
    others = _others(made["parameters"], options.parameters())
    if others and not redo:
        raise DataError(
            f"{out} was prepared with {', '.join(others)}; give the options of before or another "
            "folder, or --redo (ARGS=--redo) to prepare all videos again and replace what is there"
        )


def check_dataset(out: OutputRoot, dataset: str) -> None:
    """Refuse the store of another data set.

    Args:
        out: The store.
        dataset: Name of the data set to be prepared.

    Raises:
        DataError: Names both.
    """
    made = _made(out)
    if made is not None and made["parameters"]["dataset"] != dataset:
        raise DataError(
            f"{out} holds the data set {made['parameters']['dataset']!r}, not {dataset!r}; "
            "give another folder, or the name by --name"
        )


def listed_videos(out: OutputRoot) -> set[str]:
    """Tell which videos the manifest of an earlier run names.

    Args:
        out: The store.

    Returns:
        Their `video_id`; none where there is no manifest that can be read.
    """
    lines = (out.read(MANIFEST_NAME) or b"").splitlines()
    try:
        return {str(json.loads(line)["video_id"]) for line in lines if line.strip()}
    except (ValueError, KeyError, TypeError):
        return set()


def is_whole(out: OutputRoot, track: dict[str, Any], verify: bool) -> bool:
    """Tell whether a track is in the store as it was prepared.

    Args:
        out: The store.
        track: What the ledger says of it.
        verify: Whether to compare its hash, and not only its size.
    """
    if "sha256" not in track or out.size(track["path"]) != track["num_bytes"]:
        return False
    return not verify or out.has_content(track["path"], track["sha256"])


def is_same(source: DataRoot, known: dict[str, Any]) -> bool:
    """Tell whether a file of the raw videos has the bytes that it had; a copy may be younger.

    Args:
        source: The raw videos.
        known: What the ledger says of the file.

    Returns:
        True also where the file is gone: nothing says that it has changed.
    """
    path = known.get("path", "")
    root = root_of(source, path)
    if root.modified_ns(path) in (-1, known["mtime_ns"]):
        return True
    with root.hold(path) as file:
        return bool(file_sha256(file) == known["sha256"])


def is_gone(path: str, sizes: Mapping[str, int]) -> bool:
    """Tell whether nothing is left of a raw video.

    Args:
        path: Of the video, a file or a folder of pictures.
        sizes: Of the files that its result depends on, -1 for those that are not there.
    """
    return not any(
        size >= 0 and (name == path or name.startswith(f"{path}/")) for name, size in sizes.items()
    )


def _made(out: OutputRoot) -> dict[str, Any] | None:
    """Read how a store was made; None if there is none."""
    content = out.read(INFO_NAME)
    if content is None:
        return None
    try:
        made = json.loads(content)
        _ = made["backend"], made["backend_version"], made["parameters"]["dataset"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{out}/{INFO_NAME} is damaged; remove the folder {out}") from error
    return dict(made)


def _others(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name the options that differ, as they are typed."""
    return [
        f"--{OPTION_NAMES.get(name, name.replace('_', '-'))} "
        f"{_typed(made.get(name))}, not {_typed(value)}"
        for name, value in wanted.items()
        if made.get(name) != value
    ]


def _typed(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    # Of an option that there was not yet.
    return "unknown" if value is None else str(value)
