"""What an operator types."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx2
import pytest

from experiments import serve
from experiments.errors import UsageError
from experiments.serving.engine import Engine
from experiments.serving.jobs import JobStore
from experiments.serving.running import run_server
from experiments.serving.settings import Settings
from tests.support.serving import quick
from tests.support.stand_in_server import running, wait_for
from tests.support.videos import write_video

if TYPE_CHECKING:
    from pathlib import Path


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert serve.main([*arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("error: ")
    return said


def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = ("--state-dir", str(tmp_path))
    assert "--run" in fails(capsys, *state)
    assert "does not exist" in fails(capsys, *state, "--run", str(tmp_path / "none"))
    run = ("--run", str(tmp_path))
    assert "--new-key" in fails(capsys, *state, *run, "--host", "0.0.0.0")
    assert "--port or FORGERY_PORT" in fails(capsys, *run, "--port", "x")
    assert "--fetch-ports" in fails(capsys, *run, "--fetch-ports", "a")
    assert "--fetch-networks" in fails(capsys, *run, "--fetch-networks", "x")
    assert "--fetch-schemes" in fails(capsys, *run, "--fetch-schemes", "file")
    assert "--rate" in fails(capsys, *state, *run, "--rate", "often")
    assert "--help" in fails(capsys, "--what")
    file = tmp_path / "file"
    file.write_text("no folder")
    for words in (("--new-key", "bob"), ("--list-keys",), run, (*run, "--keys")):
        said = fails(capsys, "--state-dir", str(file), *words)
        assert f"--state-dir: {file} cannot be used" in said
    (tmp_path / "jobs.sqlite").write_text("no database" * 99)
    assert "jobs.sqlite: file is not a database" in fails(capsys, *state, *run)
    monkeypatch.setenv("FORGERY_QUEUE", "0")
    assert "FORGERY_QUEUE" in fails(capsys, *run)


def test_keys_are_made_listed_and_revoked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    state = ("--state-dir", str(tmp_path))
    assert serve.main([*state, "--new-key", "alice"]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("ffs_")
    assert "alice" in fails(capsys, *state, "--new-key", "alice")
    assert serve.main([*state, "--list-keys"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("alice\t")
    assert key not in shown
    assert "alice" in fails(capsys, *state, "--revoke-key", "bob")
    assert serve.main([*state, "--revoke-key", "alice"]) == 0


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGERY_PORT", "9000")
    monkeypatch.setenv("FORGERY_FETCH_SCHEMES", "https, http")
    assert Settings().port == 9000
    assert Settings(port=9001).port == 9001
    assert Settings().fetch_limits.schemes == ("https", "http")


@pytest.mark.parametrize(
    ("host", "keys", "wanted"),
    [
        ("127.0.0.1", None, False),
        ("::1", None, False),
        ("localhost", None, False),
        ("0.0.0.0", None, True),
        ("::", None, True),
        ("10.0.0.1", None, True),
        ("example.com", None, True),
        ("0.0.0.0", False, False),
        ("127.0.0.1", True, True),
    ],
)
def test_keys_are_needed_off_loopback(host: str, keys: bool | None, wanted: bool) -> None:
    assert Settings(host=host, keys=keys).with_keys is wanted


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    program = [sys.executable, "-m", "experiments.serve", "--run", str(tmp_path / "run")]
    flags = ["--port", "0", "--state-dir", str(tmp_path / "state")]
    done = subprocess.run([*program, *flags], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")


def test_running_jobs_are_done_before_the_server_ends(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", 10).read_bytes()
    with running(tmp_path, seconds=2.0, WORKERS="1") as (url, server):
        first, second = (
            httpx2.post(f"{url}/jobs", files={"file": video}).headers["location"] for _ in range(2)
        )
        wait_for(lambda: httpx2.get(url + first).json()["state"] == "running")
        server.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx2.get(f"{url}/healthcheck").status_code == 503)
        assert httpx2.post(f"{url}/jobs", files={"file": video}).status_code == 503
        assert server.wait(20) == 0
    store = JobStore(tmp_path / "jobs.sqlite", 16, 3600.0)
    states = [store.get(path.rpartition("/")[2]).state for path in (first, second)]  # type: ignore[union-attr]
    assert states == ["done", "queued"]


def test_who_leaves_while_waiting_cancels_the_job(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", 10).read_bytes()
    patience = httpx2.Timeout(30, read=4)  # time enough for the video to arrive
    with running(tmp_path, seconds=60.0, WORKERS="1") as (url, _):
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{url}/predict", files={"file": video}, timeout=patience)
        said = 'forgery_jobs_total{end="cancelled"} 1.0'
        wait_for(lambda: said in httpx2.get(f"{url}/metrics").text, seconds=30)
        assert not [path for path in (tmp_path / "jobs").iterdir() if path.name != "v.mp4"]


def test_replicas_share_one_folder(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", 10).read_bytes()
    with running(tmp_path, WORKERS="1") as (one, first), running(tmp_path, WORKERS="1") as (two, _):
        jobs = [httpx2.post(f"{one}/jobs", files={"file": video}).headers["location"]]
        wait_for(lambda: httpx2.get(two + jobs[0]).json()["state"] == "done")
        assert httpx2.get(f"{two}{jobs[0]}/report").status_code == 200
        first.kill()  # one ends without a word, the other goes on
        jobs = [httpx2.post(f"{two}/jobs", files={"file": video}).headers["location"]]
        wait_for(lambda: httpx2.get(two + jobs[0]).json()["state"] == "done")


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(port=taken.getsockname()[1], state_dir=tmp_path)
        with pytest.raises(UsageError, match="cannot be listened on"):
            run_server(Engine(settings, lambda: [], quick))


def test_processes_that_open_videos_inherit_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("FORGERY_RATE_STORAGE", "WANDB_API_KEY", "redis_password", "PATH")
    environment = dict.fromkeys(names, "value")
    monkeypatch.setattr(os, "environ", environment)
    serve._forget_secrets()
    assert set(environment) == {"PATH"}
