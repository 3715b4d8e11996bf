from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np

from experiments.comparing.results import Hard
from experiments.comparing.thumbnails import pictures
from tests.support.stores import write_store


def hard(video_id: str, sha256: str) -> Hard:
    return Hard("toy", {"video_id": video_id, "sha256": sha256, "label": 1}, {"r": 0.1}, 0.9)


def test_a_face_comes_from_the_store_that_has_the_very_video(tmp_path: Path) -> None:
    records = write_store(tmp_path / "store", {("test", 1): 2})
    first, second = records
    found = pictures(
        [hard(first.video_id, first.sha256), hard(second.video_id, "of another file")],
        [], [tmp_path / "none", tmp_path / "store"], tmp_path / "out" / "index.html",
    )  # fmt: skip
    assert list(found) == [("toy", first.video_id)]
    picture = found["toy", first.video_id]
    assert (tmp_path / "out" / picture.link).resolve() == (
        tmp_path / "store" / first.tracks[0]
    ).resolve()
    kind, _, content = picture.source.partition(",")
    assert kind == "data:image/jpeg;base64"
    image = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (96, 96, 3)
