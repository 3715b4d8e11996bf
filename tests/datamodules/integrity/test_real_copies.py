"""Near-duplicates among real videos: copies made here are found, other people are not."""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.datasets.folder import read_folder
from datamodules.integrity.fingerprint import fingerprint, near_pairs
from datamodules.storage.root import LocalRoot
from datamodules.store.prepared import TrackReader
from datamodules.video.reader import open_video, probe_video
from weights.catalog import CATALOG, file_path
from weights.errors import WeightsError

Picture = NDArray[np.uint8]
FRAMES = 40
PEOPLE = 5


def cropped(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    return picture[height // 20 :, : width - width // 20]


#: Name -> what is done to each picture, the quality, and the first frame of 40.
COPIES: dict[str, tuple[Callable[[Picture], Picture], str, int]] = {
    "whole": (lambda p: p, "18", 0),
    "re_encoded": (lambda p: p, "35", 0),
    "cropped": (cropped, "23", 0),
    "mirrored": (lambda p: p[:, ::-1], "23", 0),
    "brighter": (lambda p: np.clip(p * 1.1, 0, 255).astype(np.uint8), "23", 0),
    "halved": (
        lambda p: cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(
            np.uint8
        ),
        "23",
        0,
    ),
    "later_cropped_mirrored": (lambda p: cropped(p)[:, ::-1], "30", 30),
}


def write(path: Path, pictures: list[Picture], crf: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": crf})
        stream.height, stream.width = (side // 2 * 2 for side in pictures[0].shape[:2])
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            even = np.ascontiguousarray(picture[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())


def different_people(videos: Path) -> list[Path]:
    """Choose real videos of different people that are neither short nor large."""
    with (videos / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] == "real"]
    fit = [r for r in rows if int(r["frames"]) >= 80 and int(r["height"]) <= 480]
    by_person = {row["identity_group"]: videos / row["path"] for row in fit}
    return list(by_person.values())[:: max(1, len(by_person) // PEOPLE)][:PEOPLE]


@pytest.mark.slow
def test_copies_are_found_and_other_people_are_not(shared_videos: Path, tmp_path: Path) -> None:
    from datamodules.preprocess.batch import prepare_folder
    from datamodules.preprocess.prepare import PrepareOptions

    try:
        [file_path(entry.name) for entry in CATALOG]
    except WeightsError as error:
        pytest.skip(f"needs the face detector: {error}")
    for number, path in enumerate(different_people(shared_videos)):
        info = probe_video(path)
        with open_video(path, info.decoder, info.num_frames) as reader:
            pictures = list(islice(reader, 80))
        for name, (change, crf, start) in COPIES.items():
            shown = [change(picture) for picture in pictures[start : start + FRAMES]]
            write(tmp_path / f"raw/real/{name}/{number}.mp4", shown, crf)
    source = read_folder(LocalRoot(tmp_path / "raw"))
    done = prepare_folder(source, tmp_path / "out", PrepareOptions(), num_workers=2)
    tracks = [(Path(r.path).stem, track) for r in done.records for track in r.tracks[:1]]
    assert len(tracks) == PEOPLE * len(COPIES)
    prints = [fingerprint(TrackReader(tmp_path / "out" / track)) for _, track in tracks]
    pairs = near_pairs(np.stack([p for p in prints if p is not None]), range(len(tracks)))
    found = {(pair.first, pair.second) for pair in pairs}
    same = {
        (i, j)
        for i in range(len(tracks))
        for j in range(i + 1, len(tracks))
        if tracks[i][0] == tracks[j][0]
    }
    assert found == same
    mirrors = sum(pair.mirrored for pair in pairs)
    assert mirrors == PEOPLE * 2 * (len(COPIES) - 2)
