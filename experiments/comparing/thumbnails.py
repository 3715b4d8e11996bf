"""Small pictures of videos, from prepared stores where they can be reached."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from datamodules.errors import DataError
from experiments.run_folder import EVALUATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from datamodules.schema import VideoRecord
    from datamodules.store.prepared import PreparedStore
    from experiments.comparing.results import Hard
    from experiments.comparing.runs import Run

#: Height and width of a picture in pixels, and its JPEG quality [ours]: about 3 kB each.
_SIZE, _QUALITY = 96, 75


class Picture(NamedTuple):
    """What the page shows of a video.

    Attributes:
        source: A data URI of a JPEG.
        link: The stored face track, seen from the page.
    """

    source: str
    link: str


def pictures(
    videos: Sequence[Hard], runs: Sequence[Run], stores: Iterable[Path], page: Path
) -> dict[tuple[str, str], Picture]:
    """Cut the middle face of each video.

    Args:
        videos: Rows of evaluations.
        runs: Their configurations name stores.
        stores: Further stores.
        page: Where the page will lie.

    Returns:
        By set and video_id; of what is in no store that is there, nothing.
    """
    wanted = {(hard.set_name, str(hard.video["video_id"])): hard for hard in videos}
    found: dict[tuple[str, str], Picture] = {}
    for root in dict.fromkeys([*stores, *(root for run in runs for root in _roots(run))]):
        left = [key for key in wanted if key not in found]
        if not left:
            break
        for key, picture in _from_store(root, [(k, wanted[k]) for k in left], page):
            found[key] = picture
    return found


def link_to(file: Path, folder: Path) -> str:
    """Name a file for a link of a page.

    Args:
        file: Linked to.
        folder: Where the page lies.

    Returns:
        A relative URL, whatever letters the path holds.
    """
    return quote(Path(os.path.relpath(file.resolve(), folder)).as_posix())


def _roots(run: Run) -> Iterator[Path]:
    """Tell where the videos of a run may lie, its own tests and those of protocols."""
    data = run.config.get("data", {}).get("init_args", {})
    if data.get("root") and "://" not in str(data["root"]):
        yield Path(data["root"])
    if data.get("data_dir"):
        yield from (
            path.parent for path in Path(data["data_dir"]).glob("*/prepared/manifest.jsonl")
        )
    for note in run.folder.glob(f"{EVALUATIONS}/*/store"):
        yield Path(note.read_text(encoding="utf-8").strip())


def _from_store(
    root: Path, videos: Sequence[tuple[tuple[str, str], Hard]], page: Path
) -> Iterator[tuple[tuple[str, str], Picture]]:
    from datamodules.store.prepared import MANIFEST_NAME, PreparedStore

    if not (root / MANIFEST_NAME).is_file():
        return
    try:
        store = PreparedStore(root)
    except DataError:
        return
    records = {record.video_id: record for record in store.records}
    for key, hard in videos:
        record = records.get(key[1])
        # Another store may use the same names for other videos.
        if record and record.tracks and hard.video["sha256"] in ("", record.sha256):
            source = _face(store, record)
            if source:
                yield key, Picture(source, link_to(root / record.tracks[0], page.resolve().parent))


def _face(store: PreparedStore, record: VideoRecord) -> str:
    import cv2
    import numpy as np

    try:
        reader = store.reader(record.tracks[0])
        crop = reader.crops([len(reader) // 2])[0]
    except DataError:
        return ""
    small = cv2.resize(crop, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)
    fine, content = cv2.imencode(
        ".jpg", np.ascontiguousarray(small[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}" if fine else ""
