"""The unchanged videos of a sweep: prepared once, as the run's own data were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from datamodules.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from datamodules.preprocess.prepare import PrepareOptions
    from datamodules.schema import Split
    from datamodules.storage.root import DataRoot


def options_of(run: Path | None, backend: str | None) -> PrepareOptions:
    """Tell how the data of a run were prepared.

    Args:
        run: The run folder; None for the usual way.
        backend: Face backend to take instead; None for that of the run.

    Returns:
        The options of the store that the run's configuration names; the usual ones where it names
        none, or one that is no longer there.
    """
    from datamodules.preprocess.prepare import options_in
    from datamodules.store.prepared import read_prepared_info

    made: dict[str, Any] = {}
    root = _root_of(run) if run is not None else None
    if root:
        try:
            made = read_prepared_info(root).parameters
        except DataError:
            made = {}
    options = options_in(made)
    return options if backend is None else replace(options, backend=backend)


def prepare_clean(
    raw: DataRoot,
    out: Path,
    options: PrepareOptions,
    layout: str,
    split: Split,
    num_workers: int,
    tell: Callable[[int, int, str], None],
) -> None:
    """Prepare the videos of one split, or complete what an earlier run began.

    Args:
        raw: Root of the raw videos.
        out: The store to make.
        options: How.
        layout: The data set's folders, as `make data` names them.
        split: Whose videos.
        num_workers: Processes at once.
        tell: As `prepare_folder` takes it.

    Raises:
        DataError: If the folder cannot be read, or has no video of the split.
        WeightsError: If weights of the face backend are missing.
    """
    from datamodules.datasets.adapter import LayoutOptions
    from datamodules.datasets.layouts import read_layout
    from datamodules.preprocess.batch import prepare_folder

    source = read_layout(layout, raw, LayoutOptions())
    records = [record for record in source.records if record.split == split]
    if not records:
        raise DataError(f"{raw}: none of its {len(source.records)} videos is in the {split} split")
    ids = {record.video_id for record in records}
    alone = [r if r.paired_real in ids else replace(r, paired_real=None) for r in records]
    prepare_folder(replace(source, records=alone), out, options, num_workers, tell)


def _root_of(run: Path) -> str | None:
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        return (config["data"].get("init_args") or {}).get("root")
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None
