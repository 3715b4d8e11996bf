"""Files that were made to hurt end in one line, in little time, and the server serves on."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

import av
import pytest

from experiments.serving.task import score
from tests.experiments.serving.conftest import serving
from tests.support.videos import write_video

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction
    from pathlib import Path

    from fastapi.testclient import TestClient


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Use one server that really decodes, for all files."""
    with serving(
        tmp_path_factory.mktemp("server"),
        task=score,
        options={"backend": "mesh", "stride": None},
        job_memory_mb=2048,
        max_duration_s=600,
    ) as client:
        yield client


def check(client: TestClient, content: bytes, codes: set[str], within_s: float = 60.0) -> None:
    start = time.monotonic()
    answer = client.post("/predict", files={"file": content})
    assert time.monotonic() - start < within_s
    assert answer.status_code in (413, 422), answer.text
    assert answer.json()["error"]["code"] in codes, answer.text
    assert client.get("/healthcheck").json() == {"healthy": True}
    jobs = client.app.state.engine.settings.state_dir / "jobs"  # type: ignore[attr-defined]
    assert not list(jobs.iterdir())


def pictures(path: Path, side: int) -> bytes:
    """Write a small Motion JPEG video whose pictures say that they are larger."""
    with av.open(str(path), "w") as made:
        stream = made.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        for number in range(3):
            frame = av.VideoFrame(64, 64, "yuvj420p")
            for plane in frame.planes:
                plane.update(bytes([100]) * plane.buffer_size)
            frame.pts = number
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\xc0\x00\x11\x08")
    while start >= 0:
        content[start + 5 : start + 9] = struct.pack(">HH", side, side)
        start = content.find(b"\xff\xc0\x00\x11\x08", start + 9)
    return bytes(content)


@pytest.mark.parametrize("side", [20000, 16000])
def test_pictures_larger_than_any(side: int, scoring: TestClient, tmp_path: Path) -> None:
    check(scoring, pictures(tmp_path / "v.avi", side), {"over_limits", "unreadable"})


def test_a_container_that_says_so(scoring: TestClient, tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    content = bytearray(pictures(path, 20000))
    start = content.index(b"strf")
    content[start + 12 : start + 20] = struct.pack("<ii", 20000, 20000)
    check(scoring, bytes(content), {"over_limits", "unreadable"})


def many(path: Path, frames: int, tick: Fraction, side: int = 1080) -> bytes:
    """Repeat one coded picture that changes nothing: bytes that unpack to thousands of times."""
    source = write_video(path.with_suffix(".mp4"), 2, height=side, width=side, gop=10, b_frames=0)
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        first, second = (p for p in given.demux(given.streams.video[0]) if p.size)
        for number in range(frames):
            packet = av.Packet(bytes(second if number else first))
            packet.stream, packet.time_base = stream, tick
            packet.pts = packet.dts = number
            packet.is_keyframe = number == 0
            made.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("frames", "per_s"), [(500_001, 10**6), (200, 1 / 10)], ids=["frames", "duration"]
)
def test_bombs_of_pictures(frames: int, per_s: float, scoring: TestClient, tmp_path: Path) -> None:
    from fractions import Fraction

    content = many(tmp_path / "v.mkv", frames, Fraction(1 / per_s).limit_denominator(10**6), 128)
    check(scoring, content, {"over_limits"})


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b'<svg xmlns="http://www.w3.org/2000/svg" width="20000" height="20000"/>',
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5 RTP/AVP 96\n",
        b"RIFF\xff\xff\xff\xffAVI LIST",
        b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom\xff\xff\xff\xffmoov",
        b"\x1aE\xdf\xa3" + b"\xff" * 64,
        bytes(100_000),
    ],
    ids=["hls", "concat", "svg", "sdp", "avi", "mp4", "mkv", "zeros"],
)
def test_files_that_lead_elsewhere_or_nowhere(content: bytes, scoring: TestClient) -> None:
    check(scoring, content, {"unreadable", "over_limits"})


@pytest.mark.slow
def test_all_odd_videos(scoring: TestClient, shared_videos: Path) -> None:
    for path in sorted((shared_videos / "odd").iterdir()):
        start = time.monotonic()
        answer = scoring.post("/predict", files={"file": path.read_bytes()})
        assert answer.status_code in (200, 202, 422), (path.name, answer.text)
        assert time.monotonic() - start < 60
        assert scoring.get("/healthcheck").json() == {"healthy": True}


def test_a_real_video_has_all_results(scoring: TestClient, shared_videos: Path) -> None:
    content = (shared_videos / "odd" / "with_audio.mp4").read_bytes()
    answer = scoring.post("/predict?annotated=true", files={"file": content})
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "ok"
    job = scoring.get(answer.headers["content-location"]).json()
    assert {"report", "video", "timeline", "segments", "subtitles"} <= set(job["links"])
    video = scoring.get(job["links"]["video"])
    assert b"ftyp" in video.content[:16]
