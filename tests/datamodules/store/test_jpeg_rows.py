from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from datamodules.store.jpeg_rows import restart_interval, some_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


def picture(height: int, width: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(height).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.5), np.uint8)


def encode(image: NDArray[np.uint8], *, sampling: int = 0x111111, interval: int = -1) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    interval = restart_interval(image.shape[1]) if interval < 0 else interval
    options += [cv2.IMWRITE_JPEG_RST_INTERVAL, interval] if interval else []
    return bytes(cv2.imencode(".jpg", image, options)[1].tobytes())


def decode(content: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return np.asarray(image, np.uint8)


@pytest.mark.parametrize(
    ("height", "width"), [(90, 70), (64, 64), (63, 65), (8, 8), (7, 9), (300, 40)]
)
def test_a_band_has_the_pixels_of_the_whole(height: int, width: int) -> None:
    content = encode(picture(height, width))
    whole = decode(content)
    rng = np.random.default_rng(0)
    for _ in range(60):
        top = int(rng.integers(-9, height + 9))
        bottom = int(rng.integers(top, height + 30))
        part, first = some_rows(content, top, bottom)
        band = decode(part)
        np.testing.assert_array_equal(band, whole[first : first + len(band)])
        if top < height and bottom > 0:
            assert first <= max(top, 0)
            assert first + len(band) >= min(bottom, height)
            # nothing beyond the blocks that were asked for
            assert first > top - 8 or first == 0
            assert first + len(band) < bottom + 8 or len(band) == 8


def test_a_band_is_smaller_than_the_file() -> None:
    content = encode(picture(300, 200))
    assert len(some_rows(content, 100, 140)[0]) < 0.3 * len(content)
    # the marker in front of every row costs next to nothing
    assert len(content) < 1.01 * len(encode(picture(300, 200), interval=0))


@pytest.mark.parametrize(
    "content",
    [
        encode(picture(64, 64), interval=0),
        encode(picture(64, 64), interval=3),
        encode(picture(64, 64), sampling=0x221111),
        encode(picture(64, 64))[:-40],
        b"\xff\xd8",
        b"",
        b"no picture at all",
    ],
    ids=["no markers", "other markers", "4:2:0", "cut off", "a start", "empty", "text"],
)
def test_other_files_stay_whole(content: bytes) -> None:
    assert some_rows(content, 20, 30) == (content, 0)


def test_more_markers_than_rows_are_not_mistaken() -> None:
    content = encode(picture(64, 64))
    damaged = content[:-2] + b"\xff\xd3" + content[-2:]
    assert some_rows(damaged, 20, 30) == (damaged, 0)
