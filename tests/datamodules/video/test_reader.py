from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.video import reader as video_reader
from datamodules.video.reader import (
    DECODERS,
    DamagedVideoError,
    file_sha256,
    frame_times,
    open_video,
    probe_video,
)
from tests.support.videos import (
    cut_with_edit_list,
    overwrite_bytes,
    read_codes,
    truncate_file,
    write_video,
)

FRAMES = 40

_IRREGULAR = [0, 1, 2, 3, 4, 7, 8, 13, 14, 20, *range(25, 25 + 5 * (FRAMES - 10), 5)]
_OPEN_GOP = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=12"}
_REFRESH = {"x264-params": "intra-refresh=1:keyint=12:bframes=0"}
_X265 = "log-level=none:bframes=4:keyint=15:open-gop="

#: File name -> how it is written, and the decoder that must be named for it (None: either).
KINDS: dict[str, tuple[Callable[[Path], Path], str | None]] = {
    "plain.mp4": (lambda p: write_video(p, FRAMES), "decord"),
    "one_key.mp4": (lambda p: write_video(p, FRAMES, gop=250), "decord"),
    "one_frame.mp4": (lambda p: write_video(p, 1), "decord"),
    "fragments.mp4": (
        lambda p: write_video(p, FRAMES, container_options={"movflags": "frag_keyframe"}),
        None,
    ),
    "irregular.mp4": (lambda p: write_video(p, FRAMES, ticks=_IRREGULAR), "decord"),
    "irregular.mkv": (lambda p: write_video(p, FRAMES, ticks=_IRREGULAR), "decord"),
    "quarter.mp4": (lambda p: write_video(p, FRAMES, rotation=90), "decord"),
    "half.mp4": (lambda p: write_video(p, FRAMES, rotation=180), "decord"),
    "three_quarters.mp4": (lambda p: write_video(p, FRAMES, rotation=270), "decord"),
    "vp9.webm": (lambda p: write_video(p, FRAMES, codec="libvpx-vp9"), "decord"),
    "mjpeg.avi": (
        lambda p: write_video(p, FRAMES, codec="mjpeg", pix_fmt="yuvj420p", b_frames=0),
        "decord",
    ),
    "open_gop.mp4": (lambda p: write_video(p, FRAMES, options=_OPEN_GOP), "pyav"),
    "open_gop.mkv": (lambda p: write_video(p, FRAMES, options=_OPEN_GOP), "pyav"),
    "refresh.mp4": (lambda p: write_video(p, FRAMES, options=_REFRESH), "pyav"),
    "hevc_open.mp4": (
        lambda p: write_video(p, FRAMES, codec="libx265", options={"x265-params": _X265 + "1"}),
        "pyav",
    ),
    "hevc_closed.mp4": (
        lambda p: write_video(p, FRAMES, codec="libx265", options={"x265-params": _X265 + "0"}),
        "pyav",
    ),
    "b_frames.avi": (lambda p: write_video(p, FRAMES, codec="mpeg4"), "pyav"),
    "h264.avi": (lambda p: write_video(p, FRAMES), "pyav"),
    "stream.ts": (lambda p: write_video(p, FRAMES), "pyav"),
    "with: colon é 视频.mp4": (lambda p: write_video(p, FRAMES), "decord"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    return write_video(folder / "base.mp4", FRAMES, container_options={"movflags": "faststart"})


def codes(path: Path, decoder: str, order: list[int]) -> list[int]:
    """Read frames one by one and all at once, and say which ones came."""
    with open_video(path, decoder) as reader:
        single = [read_codes(reader.read([i]))[0] for i in order]
        assert read_codes(reader.read(order)) == single
    return single


@pytest.mark.parametrize("name", KINDS)
def test_named_decoder_gives_every_frame_by_its_number(folder: Path, name: str) -> None:
    write, decoder = KINDS[name]
    path = write(folder / name)
    info = probe_video(path)
    assert info.num_frames == (1 if name == "one_frame.mp4" else FRAMES)
    assert (info.height, info.width) == (96, 128)
    assert decoder in (None, info.decoder), info.reason
    assert (info.reason == "") == (info.decoder == "decord")
    shuffled = np.random.default_rng(0).permutation(info.num_frames).tolist()
    for exact in {info.decoder, "pyav"}:
        assert codes(path, exact, shuffled) == shuffled
        with open_video(path, exact) as reader:
            assert read_codes(np.stack(list(reader))) == list(range(info.num_frames))
            assert (reader.num_frames, reader.height, reader.width) == (info.num_frames, 96, 128)
            assert reader.fps == pytest.approx(info.fps, rel=0.01)


def test_edit_list_hides_frames(folder: Path, plain: Path) -> None:
    path = cut_with_edit_list(plain, folder / "edit.mp4", first_frame=17)
    info = probe_video(path)
    assert (info.num_frames, info.decoder) == (FRAMES - 17, "pyav")
    assert "edit list" in info.reason
    shuffled = np.random.default_rng(1).permutation(info.num_frames)
    assert codes(path, "pyav", shuffled.tolist()) == (shuffled + 17).tolist()


def test_long_videos_are_judged_by_samples(
    plain: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = probe_video(plain)
    monkeypatch.setattr(video_reader, "_FULL_LOOK_PIXELS", 0)
    monkeypatch.setattr(video_reader, "_look_fully", None)
    sampled = probe_video(plain)
    assert sampled == whole
    np.testing.assert_array_equal(sampled.timestamps_s, whole.timestamps_s)


def test_large_videos_are_not_given_to_a_decoder_that_runs_ahead(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_reader, "_MOST_DECORD_BYTES", FRAMES * 96 * 128 * 3 - 1)
    info = probe_video(plain)
    assert info.decoder == "pyav"
    assert "at once" in info.reason
    monkeypatch.setattr(video_reader, "_MOST_DECORD_BYTES", FRAMES * 96 * 128 * 3)
    assert probe_video(plain).decoder == "decord"


def test_times_of_a_variable_frame_rate(folder: Path) -> None:
    path = write_video(folder / "vfr.mp4", FRAMES, ticks=_IRREGULAR)
    info = probe_video(path)
    expected = np.array(_IRREGULAR) / 25
    assert info.variable_frame_rate
    np.testing.assert_allclose(info.timestamps_s, expected, atol=1e-6)
    np.testing.assert_allclose(frame_times(path, FRAMES), expected, atol=1e-6)
    assert info.fps == pytest.approx((FRAMES - 1) / expected[-1])
    assert info.duration_s == pytest.approx(expected[-1] + 1 / info.fps)


def test_facts_of_a_regular_video(plain: Path) -> None:
    info = probe_video(plain)
    assert info.fps == 25.0
    assert info.duration_s == pytest.approx(FRAMES / 25)
    assert not info.variable_frame_rate
    assert info.sha256 == file_sha256(plain)
    np.testing.assert_allclose(info.timestamps_s, np.arange(FRAMES) / 25, atol=1e-9)
    with pytest.raises(DataError, match="has 40 frames where 41 were counted"):
        frame_times(plain, FRAMES + 1)


def damaged(folder: Path, plain: Path, kind: str) -> Path:
    path = folder / kind
    if kind == "cut.mkv":
        return truncate_file(write_video(folder / "whole.mkv", FRAMES), path, 0.5)
    if kind == "cut.mp4":
        return truncate_file(plain, path, 0.6)
    return overwrite_bytes(plain, path, start=0.6, count=200)


@pytest.mark.parametrize("kind", ["cut.mp4", "cut.mkv", "overwritten.mp4"])
def test_damaged_files_are_refused_or_read_to_the_damage(
    folder: Path, plain: Path, kind: str
) -> None:
    path = damaged(folder, plain, kind)
    with pytest.raises(DamagedVideoError, match=r"decodes \d+ of \d+ frames .*again") as refused:
        probe_video(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    info = probe_video(path, allow_damaged=True)
    assert 5 < info.num_frames < FRAMES
    assert (info.decoder, info.damage) == ("pyav_prefix", str(refused.value))
    with open_video(path, info.decoder, info.num_frames) as reader:
        assert read_codes(np.stack(list(reader))) == list(range(info.num_frames))
        assert read_codes(reader.read([3, info.num_frames - 1, 0])) == [3, info.num_frames - 1, 0]
        with pytest.raises(IndexError):
            reader.read([info.num_frames])
    with open_video(path, "pyav") as reader, pytest.raises(DamagedVideoError, match="decodes"):
        list(reader)
    assert frame_times(path, info.num_frames)[-1] == pytest.approx((info.num_frames - 1) / 25)


def test_damage_inside_a_stream_is_noticed(folder: Path) -> None:
    """The decoder goes on and guesses; a change that is valid by chance stays unseen."""
    whole = write_video(folder / "sharp.mp4", 30, gop=30, options={"crf": "10"})
    noticed = 0
    for seed in range(6):
        path = overwrite_bytes(whole, folder / "flipped.mp4", start=0.4, count=3, seed=seed)
        try:
            probe_video(path)
        except DamagedVideoError:
            noticed += 1
            info = probe_video(path, allow_damaged=True)
            with open_video(path, info.decoder, info.num_frames) as reader:
                assert read_codes(np.stack(list(reader))) == list(range(info.num_frames))
    assert noticed >= 4


def test_frames_left_out_in_silence_are_noticed(folder: Path) -> None:
    path = write_video(folder / "lossy.mp4", 30, codec="libx265", gop=30, b_frames=0)
    with av.open(str(path)) as container:
        packet = next(p for i, p in enumerate(container.demux(video=0)) if i == 15)
        start, size = packet.pos, packet.size
    content = bytearray(path.read_bytes())
    # one unit of filler in the place of the picture: nothing to complain of, nothing to show
    filler = (size - 4).to_bytes(4, "big") + b"\x4c\x01" + b"\xff" * (size - 7) + b"\x80"
    content[start : start + size] = filler
    path.write_bytes(bytes(content))
    with pytest.raises(DamagedVideoError, match=r"decodes 15 of 30 frames .* are lost"):
        probe_video(path)
    assert probe_video(path, allow_damaged=True).num_frames == 15


def silence(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def folder_at(path: Path) -> Path:
    path.mkdir()
    return path


FILE_DECODERS = [name for name in DECODERS if not name.startswith("frames")]
UNREADABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing.mp4": (lambda p: p, "No such file"),
    "folder.mp4": (folder_at, "is not a file|holds no picture"),
    "empty.mp4": (lambda p: written(p, b""), "is empty"),
    "text.mp4": (lambda p: written(p, b"hello, I am no video\n" * 50), "no readable video"),
    "silence.mp4": (silence, "no video stream"),
    # would make the reader open other files
    "list.m3u8": (lambda p: written(p, b"#EXTM3U\n#EXTINF:1,\nbase.mp4\n"), "no readable video"),
    "list.mp4": (lambda p: written(p, b"ffconcat version 1.0\nfile base.mp4\n"), "no readable"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_files_get_one_line(
    tmp_path: Path, plain: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make, reason = UNREADABLE[name]
    (tmp_path / "base.mp4").write_bytes(plain.read_bytes())
    path = make(tmp_path / name)
    uses: list[Callable[[Path], object]] = [probe_video, *map(_first_frame, FILE_DECODERS)]
    for use in uses:
        with pytest.raises(DataError, match=reason) as refused:
            use(path)
        assert str(refused.value).startswith(str(path))
        assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def _first_frame(decoder: str) -> Callable[[Path], NDArray[np.uint8]]:
    return lambda path: open_video(path, decoder).read([0])


def test_a_changing_picture_size_is_refused(folder: Path) -> None:
    small = write_video(folder / "small.h264", 10)
    large = write_video(folder / "large.h264", 10, height=128, width=160)
    path = written(folder / "both.h264", small.read_bytes() + large.read_bytes())
    with pytest.raises(DataError, match="changes from 128x96 to 160x128 at frame 10"):
        probe_video(path)
    with open_video(path, "pyav") as reader, pytest.raises(DataError, match="at frame 10"):
        list(reader)


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_reading_outside_the_video(plain: Path, decoder: str) -> None:
    with open_video(plain, decoder) as reader:
        for index in (-1, FRAMES, 10**6):
            with pytest.raises(IndexError, match=f"frame {index} asked for, has 0 to 39"):
                reader.read([0, index])
        assert reader.read([]).shape == (0, 96, 128, 3)
        assert read_codes(reader.read([7, 7, 3, 7])) == [7, 7, 3, 7]


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_another_number_of_frames_means_another_file(plain: Path, decoder: str) -> None:
    with (
        open_video(plain, decoder, FRAMES - 1) as reader,
        pytest.raises(DataError, match="40 frames where 39 were counted before"),
    ):
        list(reader)


def test_unknown_decoder() -> None:
    with pytest.raises(DataError, match="'dekord'; there are: decord, pyav, pyav_prefix"):
        open_video("x.mp4", "dekord")
