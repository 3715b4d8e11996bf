"""Frame k is frame k on the kinds of files that trip decoders up, in order and out of it.

`test_reader.py` has the plain cases of each container and codec; here are long groups of pictures,
codecs with frames that are never shown, and several traits in one file.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.video.reader import VideoInfo, open_video, probe_video
from tests.support.videos import cut_with_edit_list, read_codes, write_video

#: More than one group of 250 pictures, as x264 makes them when it is not told otherwise.
LONG = 310
SHORT = 60
_HEVC = {"x265-params": "log-level=none:bframes=4:b-pyramid=1:keyint=250:min-keyint=250"}
_VP9 = {"deadline": "good", "cpu-used": "5"}
_AV1 = {"preset": "8", "crf": "15"}
#: A camera that drops and doubles its speed: times of the frames in units of 1/25 s.
_UNEVEN = np.cumsum(np.random.default_rng(0).integers(1, 6, LONG)).tolist()

#: Name -> number of frames, and how it is written.
KINDS: dict[str, tuple[int, Callable[[Path, int], Path]]] = {
    "h264_gop250.mp4": (LONG, lambda p, n: write_video(p, n, gop=250, b_frames=3)),
    "h264_gop250.mkv": (LONG, lambda p, n: write_video(p, n, gop=250, b_frames=3)),
    "h264_pyramid.mp4": (
        LONG,
        lambda p, n: write_video(
            p, n, options={"x264-params": "bframes=8:b-adapt=2:b-pyramid=normal:keyint=250:ref=6"}
        ),
    ),
    "h264_uneven_gop250.mp4": (
        LONG,
        lambda p, n: write_video(p, n, gop=250, b_frames=3, ticks=_UNEVEN),
    ),
    "hevc_gop250.mp4": (LONG, lambda p, n: write_video(p, n, codec="libx265", options=_HEVC)),
    "hevc.mkv": (SHORT, lambda p, n: write_video(p, n, codec="libx265", options=_HEVC)),
    "hevc_turned.mp4": (
        SHORT,
        lambda p, n: write_video(p, n, codec="libx265", options=_HEVC, rotation=90),
    ),
    "vp9_gop250.webm": (
        SHORT,
        lambda p, n: write_video(p, n, codec="libvpx-vp9", options=_VP9, gop=250),
    ),
    "vp9_gop250.mp4": (
        SHORT,
        lambda p, n: write_video(p, n, codec="libvpx-vp9", options=_VP9, gop=250),
    ),
    "vp9_uneven.webm": (
        SHORT,
        lambda p, n: write_video(
            p, n, codec="libvpx-vp9", options=_VP9, gop=250, ticks=_UNEVEN[:n]
        ),
    ),
    "av1.mp4": (SHORT, lambda p, n: write_av1(p, n)),
    "av1.webm": (SHORT, lambda p, n: write_av1(p, n)),
    "av1_gop250.mp4": (LONG, lambda p, n: write_av1(p, n, gop=250)),
    "uneven_turned.mp4": (
        SHORT,
        lambda p, n: write_video(p, n, ticks=_UNEVEN[:n], rotation=270),
    ),
}

#: Name -> first shown frame, and how the file is written of which the edit list hides the rest.
CUTS: dict[str, tuple[int, Callable[[Path], Path]]] = {
    "at_key.mp4": (24, lambda p: write_video(p, SHORT)),
    "before_key.mp4": (23, lambda p: write_video(p, SHORT)),
    "after_key.mp4": (25, lambda p: write_video(p, SHORT)),
    "long_gop.mp4": (200, lambda p: write_video(p, LONG, gop=250, b_frames=3)),
    "turned.mp4": (17, lambda p: write_video(p, SHORT, rotation=180)),
    "hevc.mp4": (17, lambda p: write_video(p, SHORT, codec="libx265", options=_HEVC)),
}


def write_av1(path: Path, num_frames: int, gop: int = 12) -> Path:
    """Encode AV1, whose groups hold frames that are never shown."""
    try:
        av.Codec("libsvtav1", "w")
    except ValueError:
        pytest.skip("this PyAV has no AV1 encoder")
    # Run by root the encoder gives its caller the priority of real time, which everything that the
    # caller starts later would inherit: its caller is a thread that ends.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(
            write_video, path, num_frames, codec="libsvtav1", options=_AV1, gop=gop
        ).result()


def check(path: Path, info: VideoInfo, first: int) -> None:
    """Read in order, one by one in any order, many at once, and again from the start."""
    shown = np.arange(first, first + info.num_frames)
    rng = np.random.default_rng(info.num_frames)
    jumps = rng.permutation(info.num_frames)[:60]
    with open_video(path, info.decoder, info.num_frames) as reader:
        assert [read_codes(frame[None])[0] for frame in reader] == shown.tolist()
        assert [read_codes(reader.read([int(k)]))[0] for k in jumps] == shown[jumps].tolist()
        assert read_codes(reader.read(jumps.tolist())) == shown[jumps].tolist()
        backwards = list(range(info.num_frames - 1, -1, -7))
        assert read_codes(reader.read(backwards)) == shown[backwards].tolist()
        # A clip from the middle, as a loader asks for it, and the whole once more.
        clip = list(range(info.num_frames // 3, info.num_frames // 3 + 16))
        assert read_codes(reader.read(clip)) == shown[clip].tolist()
        assert [read_codes(frame[None])[0] for frame in reader] == shown.tolist()


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_is_the_one_of_its_number(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVT_LOG", "1")  # the AV1 encoder talks a lot
    num_frames, write = KINDS[name]
    path = write(tmp_path / name, num_frames)
    info = probe_video(path)
    assert (info.num_frames, info.height, info.width) == (num_frames, 96, 128)
    assert info.variable_frame_rate == ("uneven" in name)
    check(path, info, first=0)


@pytest.mark.parametrize("name", CUTS)
def test_hidden_frames_do_not_count(tmp_path: Path, name: str) -> None:
    first, write = CUTS[name]
    whole = write(tmp_path / "whole.mp4")
    path = cut_with_edit_list(whole, tmp_path / name, first)
    info = probe_video(path)
    assert info.num_frames == probe_video(whole).num_frames - first
    check(path, info, first)
