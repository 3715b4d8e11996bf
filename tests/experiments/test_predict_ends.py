"""What a prediction that is ended leaves behind: nothing, or what the next one removes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from experiments.command_line import SignalError, ends_by_signal
from experiments.predicting.folder import whole_folder
from tests.experiments.test_predict import CASE, LEFT, call, give_faces
from tests.support.programs import ROOT
from tests.support.runs import write_run
from tests.support.videos import write_video

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


def begun(out: Path, video: Path, run: Path) -> subprocess.Popen[str]:
    """Start a prediction, and wait until it writes."""
    program = [sys.executable, "-m", "experiments.predict", "--video", video, "--run", run]
    fixed = ["--backend", "given", "--device", "cpu", "--engine", "torch", "--stride", "1"]
    process = subprocess.Popen(
        [*map(str, program), *fixed, "--out", str(out)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not out.parent.is_dir() or not [*out.parent.iterdir()]:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_what_is_terminated_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def terminate(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    monkeypatch.setattr("experiments.predicting.outputs.write_report", terminate)
    run, out = write_run(tmp_path / "run", CASE), tmp_path / "results" / "out"
    video = write_video(tmp_path / "v.mp4", num_frames=8)
    give_faces(video, {LEFT: range(8)})
    assert call(video, run, "--out", str(out)) == 128 + signal.SIGTERM
    assert capsys.readouterr().err.startswith("interrupted; nothing was written")
    assert [*out.parent.iterdir()] == []


@pytest.mark.slow
def test_signals_leave_nothing_and_kills_are_tidied_up(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", CASE)
    video = write_video(tmp_path / "v.mp4", num_frames=1500)
    give_faces(video, {LEFT: range(1500)})
    out = tmp_path / "results" / "out"
    with begun(out, video, run) as process:
        process.kill()
    (left,) = out.parent.iterdir()
    for number in (signal.SIGTERM, signal.SIGINT):
        with begun(out, video, run) as process:
            (seen,) = wait_for_another(out.parent, left)
            process.send_signal(number)
            assert process.wait(60) == 128 + number
            assert process.stderr is not None
            said = "interrupted; nothing was written of the video at hand\n"
            assert process.stderr.read() == said
        assert seen != left
        assert [*out.parent.iterdir()] == []


def wait_for_another(folder: Path, left: Path) -> list[Path]:
    deadline = time.monotonic() + 120
    while (found := [*folder.iterdir()]) in ([left], []):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_only_folders_of_ended_processes_of_this_machine_go(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = socket.gethostname()
    mine = (f".out.{host}.{ended.pid}.partial", f".out.{host}.{os.getpid()}.partial")
    others = (
        f".out.{host}.{os.getppid()}.partial",  # lives
        f".out.elsewhere.{ended.pid}.partial",
        f".other.{host}.{ended.pid}.partial",
        f".out.{host}.notes.partial",
    )
    for name in (*mine, *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "timeline.png").touch()
    with whole_folder(tmp_path / "out") as folder:
        assert [*folder.iterdir()] == []
    assert {path.name for path in tmp_path.iterdir()} == {"out", *others}


@pytest.fixture
def terminated() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("terminated")
def test_signals_that_are_handled_or_ignored_stay_so() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with ends_by_signal():
        os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    expected: AbstractContextManager[object] = pytest.raises(SignalError)
    with expected, ends_by_signal():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
