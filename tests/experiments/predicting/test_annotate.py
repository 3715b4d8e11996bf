from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.video.reader import probe_video
from experiments.predicting import annotate as annotated
from experiments.predicting.annotate import annotate_video
from experiments.predicting.clock import first_picture_s
from experiments.predicting.drawing import Painter
from experiments.predicting.faces import find_people
from experiments.predicting.palette import FAKE, REAL
from tests.experiments.test_predict import LEFT, give_faces
from tests.support.reports import Row, scored_video
from tests.support.videos import read_code, write_video


def add_sound(
    video: Path,
    path: Path,
    codec: str,
    rate: int = 16000,
    seconds: float = 2.0,
    lead_s: float = 0.0,
) -> Path:
    """Copy a video and put a tone beside it, which may come before the pictures."""
    with av.open(str(video)) as source, av.open(str(path), "w") as made:
        pictures = made.add_stream_from_template(source.streams.video[0])
        sound: Any = made.add_stream(codec, rate=rate)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = pictures
                lead = round(lead_s / packet.time_base)
                packet.pts, packet.dts = packet.pts + lead, packet.dts + lead
                made.mux(packet)
        tone = np.sin(np.arange(int(rate * seconds)) * 0.1)
        for start in range(0, len(tone), 1024):
            part = (tone[start : start + 1024] * 2**14).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            made.mux(sound.encode(frame))
        made.mux(sound.encode())
    return path


def decode(path: Path) -> tuple[list[NDArray[np.uint8]], list[float]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return [f.to_ndarray(format="rgb24") for f in frames], [float(f.time) for f in frames]


def near(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.asarray((np.abs(picture.astype(int) - colour).max(axis=-1) < 45), np.bool_)


def annotate(video: Path, path: Path, *rows: Row, **facts: Any) -> str:
    info = probe_video(video)
    report = scored_video(
        *rows,
        num_frames=info.num_frames,
        size=(info.height, info.width),
        **{"times_s": info.timestamps_s, "fps": info.fps, "decoder": info.decoder, **facts},
    )
    return annotate_video(path, video, report)


def test_boxes_belong_to_their_persons(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=20, height=400, width=640)
    left = (1, range(20), [0.0] * 20, (60.0, 220.0, 160.0, 330.0))
    right = (2, range(5, 15), [1.0] * 10, (400.0, 220.0, 520.0, 350.0))
    assert annotate(video, tmp_path / "out.mp4", left, right) == ""
    frames, _ = decode(tmp_path / "out.mp4")
    assert len(frames) == 20
    for number, frame in enumerate(frames):
        assert read_code(frame[:400]) == number  # each box in its own frame
        assert near(frame[224:326, 60], REAL).mean() > 0.9
        assert near(frame[224:346, 400], FAKE).mean() == pytest.approx(
            float(5 <= number < 15), abs=0.1
        )


@pytest.mark.parametrize(
    ("height", "width"), [(36, 66), (97, 131), (1080, 608)], ids=["tiny", "odd", "upright"]
)
def test_any_size_is_even_and_plays(height: int, width: int, tmp_path: Path) -> None:
    video = write_video(
        tmp_path / "a.mkv", num_frames=3, height=height, width=width, pix_fmt="yuv444p", b_frames=0
    )
    box = (width * 0.2, height * 0.5, width * 0.6, height * 0.9)
    assert annotate(video, tmp_path / "out.mp4", (1, range(3), [0.9] * 3, box)) == ""
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.width % 2 == stream.height % 2 == 0
        assert stream.height > height
        zoom = max(1, -(-270 // min(height, width)))
        assert stream.width in (width * zoom, width * zoom + 1)
        assert len(list(container.decode(video=0))) == 3


def test_times_of_a_variable_rate_are_kept(tmp_path: Path) -> None:
    ticks = [*range(10), *range(20, 40, 2)]
    video = write_video(tmp_path / "a.mp4", num_frames=20, ticks=ticks, b_frames=0)
    annotate(video, tmp_path / "out.mp4", (1, range(20), [0.5] * 20, (8.0, 50.0, 40.0, 90.0)))
    _, times = decode(tmp_path / "out.mp4")
    np.testing.assert_allclose(np.array(times) - times[0], np.array(ticks) / 25, atol=1e-3)


@pytest.mark.parametrize("steps", [[1] * 39, [1] * 20 + [5] * 19, [5] * 20 + [1] * 19])
def test_the_last_frames_are_within_the_length_that_players_see(
    steps: list[int], tmp_path: Path
) -> None:
    ticks = [0, *np.cumsum(steps).tolist()]
    video = write_video(tmp_path / "a.mp4", num_frames=40, ticks=ticks, b_frames=0)
    annotate(video, tmp_path / "out.mp4", (1, range(40), [0.5] * 40, (8.0, 50.0, 40.0, 90.0)))
    with av.open(str(tmp_path / "out.mp4")) as container:
        length = container.duration / av.time_base
    end = ticks[-1] / 25 + 1 / probe_video(video).fps
    assert length == pytest.approx(end, abs=2e-3)


def strip_row(*rows: Row, **facts: Any) -> NDArray[np.float64]:
    """The row of the first person in the strip below a wide picture, in 600 columns."""
    strip = Painter(scored_video(*rows, size=(270, 1400), **facts), 270, 1400)._strip
    return strip._row(rows[0][0], 600)


@pytest.mark.parametrize("slow", [2, 5, 40])
def test_slow_frames_of_a_variable_rate_leave_no_stripes(slow: int) -> None:
    ticks = np.cumsum([0, *[1] * 25, *[slow] * 24])
    scores = [0.2] * 25 + [0.8] * 25
    face = (1, range(50), scores, (8.0, 50.0, 40.0, 90.0))
    line = strip_row(face, times_s=ticks / 25)
    assert not np.isnan(line).any()
    change = int(600 * ticks[25] / (ticks[-1] + 1))
    assert set(line[: change - 1]) == {0.2}
    assert set(line[change + 1 :]) == {0.8}


def test_the_strip_is_dark_where_nobody_is_seen() -> None:
    face = (1, [*range(10), *range(11, 20), *range(30, 50)], [0.5] * 39, (8.0, 50.0, 40.0, 90.0))
    dark = np.flatnonzero(np.isnan(strip_row(face)))
    assert (dark[0], dark[-1]) == (240, 359)
    assert len(dark) == 120  # frame 10, one alone, is not


def test_scores_of_spread_frames_fill_the_strip() -> None:
    scores = [0.5 if frame % 5 == 0 else np.nan for frame in range(50)]
    line = strip_row((1, range(50), scores, (8.0, 50.0, 40.0, 90.0)))
    assert not np.isnan(line[:540]).any()


def test_a_turned_video_is_shown_upright(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=4, height=300, width=320, rotation=90)
    annotate(video, tmp_path / "out.mp4", (1, range(4), [0.0] * 4, (40.0, 200.0, 120.0, 280.0)))
    frames, _ = decode(tmp_path / "out.mp4")
    assert [read_code(frame[:300]) for frame in frames] == list(range(4))
    assert near(frames[2][204:276, 40], REAL).mean() > 0.9


@pytest.mark.parametrize(
    ("suffix", "codec", "wanted"), [("mp4", "aac", "aac"), ("mkv", "pcm_s16le", "aac")]
)
def test_sound_comes_along(suffix: str, codec: str, wanted: str, tmp_path: Path) -> None:
    silent = write_video(tmp_path / f"silent.{suffix}", num_frames=50, b_frames=0)
    video = add_sound(silent, tmp_path / f"a.{suffix}", codec)
    assert annotate(video, tmp_path / "out.mp4", (1, range(50), [0.5] * 50, (8, 50, 40, 90))) == ""
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == wanted
        samples = sum(f.samples for f in container.decode(audio=0))
        rate = container.streams.audio[0].codec_context.sample_rate
    assert samples / rate == pytest.approx(2.0, abs=0.2)
    if codec == wanted:  # not encoded anew
        assert packets(tmp_path / "out.mp4") == packets(video)


@pytest.mark.parametrize(("suffix", "lead_s"), [("mp4", 0.8), ("mkv", 0.8), ("mp4", 0.0)])
def test_times_are_those_of_a_player_s_clock(suffix: str, lead_s: float, tmp_path: Path) -> None:
    silent = write_video(tmp_path / f"silent.{suffix}", num_frames=50, b_frames=0)
    video = add_sound(silent, tmp_path / f"a.{suffix}", "aac", seconds=3.0, lead_s=lead_s)
    assert first_picture_s(video) == pytest.approx(lead_s, abs=0.1)
    give_faces(video, {LEFT: range(50)})
    times_s = find_people(video, "given", False, lambda *_: None).times_s
    face = (1, range(50), [0.5] * 50, (8.0, 50.0, 40.0, 90.0))
    annotate(video, tmp_path / "out.mp4", face, times_s=times_s)
    for path in (video, tmp_path / "out.mp4"):
        with av.open(str(path)) as container:
            start_s = (container.start_time or 0) / av.time_base  # where a player's clock is 0
            frames = [float(frame.time) for frame in container.decode(video=0)]
        np.testing.assert_allclose(np.array(frames) - start_s, times_s, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("suffix", "codec", "rate", "wanted"),
    [
        ("avi", "libmp3lame", 48000, "mp3"),
        ("mkv", "pcm_s16le", 192_000, "aac"),  # AAC has no such rates
        ("mkv", "pcm_s16le", 22_255, "aac"),
    ],
)
def test_all_of_unusual_sound_comes_along(
    suffix: str, codec: str, rate: int, wanted: str, tmp_path: Path
) -> None:
    silent = write_video(tmp_path / f"silent.{suffix}", num_frames=50, b_frames=0)
    video = add_sound(silent, tmp_path / f"a.{suffix}", codec, rate)
    assert annotate(video, tmp_path / "out.mp4", (1, range(50), [0.5] * 50, (8, 50, 40, 90))) == ""
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == wanted
        samples = sum(f.samples for f in container.decode(audio=0))
        made = container.streams.audio[0].codec_context.sample_rate
    assert samples / made == pytest.approx(2.0, abs=0.2)


def test_sound_with_ticks_as_long_as_a_packet_is_encoded_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotated, "_MP4_SOUND", frozenset())
    silent = write_video(tmp_path / "silent.avi", num_frames=50, b_frames=0)
    video = add_sound(silent, tmp_path / "a.avi", "libmp3lame", 48000)
    assert annotate(video, tmp_path / "out.mp4", (1, range(50), [0.5] * 50, (8, 50, 40, 90))) == ""


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def test_a_video_without_faces_is_written_too(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=5)
    assert annotate(video, tmp_path / "out.mp4") == ""
    assert len(decode(tmp_path / "out.mp4")[0]) == 5
