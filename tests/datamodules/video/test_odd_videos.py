"""Real files with something odd about them; they lie beside the repository, if anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.video.reader import open_video, probe_video

ODD = Path(__file__).parents[3].parent / "shared" / "videos" / "odd"

#: What the README beside these files says: number of frames, or a part of the refusal.
_ODD_FILES: dict[str, int | str] = {
    "zero_byte.mp4": "is empty",
    "text_file.mp4": "no readable video",
    "truncated_moov_end.mp4": "no readable video",
    "truncated_moov_start.mp4": "decodes 64 of 125 frames",
    "corrupt_middle.mp4": "of 125 frames",
    "audio_only.mp4": "no video stream",
    "with_audio.mp4": 50,
    "no_face.mp4": 95,
    "black.mp4": 50,
    "one_frame.mp4": 1,
    "three_frames.mp4": 3,
    "two_faces.mp4": 72,
    "face_only_first_half.mp4": 169,
    "variable_frame_rate.mp4": 62,
    "rotated_metadata.mp4": 75,
    "hevc_10bit.mp4": 75,
    "vp9.webm": 75,
    "av1.webm": 50,
    "mjpeg.avi": 50,
    "odd_dimensions_yuv444.mp4": 50,
    "odd_dimensions_vp9.webm": 50,
    "tiny_64x36.mp4": 72,
    "grayscale.mp4": 50,
    "name with spaces é 视频.mp4": 78,
}


@pytest.mark.skipif(not ODD.exists(), reason=f"the odd videos are not at {ODD}")
@pytest.mark.parametrize("name", _ODD_FILES)
def test_odd_files(name: str) -> None:
    expected = _ODD_FILES[name]
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            probe_video(ODD / name)
        return
    info = probe_video(ODD / name)
    assert info.num_frames == expected
    if name == "rotated_metadata.mp4":
        assert (info.width, info.height) == (480, 360)
    some = [info.num_frames - 1, 0, info.num_frames // 2]
    with open_video(ODD / name, info.decoder, info.num_frames) as reader:
        sequential = dict(enumerate(reader))
        for index, frame in zip(some, reader.read(some), strict=True):
            np.testing.assert_array_equal(frame, sequential[index])


FFPP = sorted(ODD.parent.rglob("ffpp_519_c23.mp4"))


@pytest.mark.skipif(not FFPP, reason=f"the real videos are not at {ODD.parent}")
def test_jumping_at_once_into_a_video_of_faceforensics() -> None:
    """Unless the first frame is decoded before, decord gives no picture there."""
    with open_video(FFPP[0], "decord") as fast, open_video(FFPP[0], "pyav") as exact:
        np.testing.assert_array_equal(fast.read([450]), exact.read([450]))
