"""`--allow-url`: a video is really fetched, within the settings that the server has."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from experiments import predict
from tests.support.cases import CASES
from tests.support.runs import write_run
from tests.support.videos import write_video


class _Handler(SimpleHTTPRequestHandler):
    asked: list[str]

    def log_message(self, *_: object) -> None:
        self.asked.append(self.path)


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    folder = tmp_path / "site"
    folder.mkdir()
    write_video(folder / "talk.mp4", num_frames=12)
    monkeypatch.setattr(_Handler, "asked", [], raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/talk.mp4?token=secret"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def words(tmp_path: Path, address: str) -> list[str]:
    run = write_run(tmp_path / "ftcn", CASES["ftcn_tt"])
    rest = ["--engine", "torch", "--device", "cpu", "--no-video", "--out", str(tmp_path / "out")]
    return ["--video", address, "--run", str(run), "--allow-url", *rest]


def laboratory(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("FORGERY_FETCH_SCHEMES", "http")
    monkeypatch.setenv("FORGERY_FETCH_PORTS", address.split(":")[2].split("/")[0])
    monkeypatch.setenv("FORGERY_FETCH_NETWORKS", "127.0.0.0/8")


def test_a_laboratory_s_video_is_fetched_and_scored(
    words: list[str], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laboratory(monkeypatch, address)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert predict.main(words) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert (report["video"]["name"], report["video"]["num_frames"]) == ("talk.mp4", 12)
    assert "secret" not in json.dumps(report)
    assert _Handler.asked == ["/talk.mp4?token=secret"]
    assert not any(path.suffix == ".mp4" for path in temporary.rglob("*"))


def test_private_addresses_are_not_asked_unless_allowed(
    words: list[str], address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict.main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert _Handler.asked == []
    assert not (tmp_path / "out").exists()


def test_wrong_settings_are_one_line(
    words: list[str],
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    laboratory(monkeypatch, address)
    monkeypatch.setenv("FORGERY_FETCH_NETWORKS", "everywhere")
    assert predict.main(words) == 2
    told = capsys.readouterr().err
    assert "FORGERY_FETCH_NETWORKS" in told
    assert told.count("\n") == 1
