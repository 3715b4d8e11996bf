"""Readers and their process: workers, memory, what is imported, and a decoder that hangs."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.video import decord_reader
from datamodules.video import reader as video_reader
from datamodules.video.reader import open_video, probe_video
from tests.support.videos import read_codes, write_video


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "plain.mp4", 40)


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_an_opened_reader_goes_to_another_process(plain: Path, decoder: str) -> None:
    reader = open_video(plain, decoder)
    assert read_codes(reader.read([20])) == [20]
    assert read_codes(pickle.loads(pickle.dumps(reader)).read([21])) == [21]
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(read_codes(reader.read([30, 5]))))
    child.start()
    child.join(timeout=30)
    alive = child.is_alive()
    if alive:
        child.kill()
    assert not alive, "hangs after fork"
    assert answers.get() == [30, 5]
    assert read_codes(reader.read([22])) == [22]
    reader.close()
    assert read_codes(reader.read([23])) == [23]


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_many_files_one_after_the_other_take_no_more_memory(plain: Path, decoder: str) -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc")

    def used() -> tuple[int, int]:
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmRSS"].split()[0]), int(fields["Threads"])

    def read(times: int) -> None:
        for _ in range(times):
            with open_video(plain, decoder) as reader:
                reader.read([5])

    read(30)
    memory, threads = used()
    read(150)
    grown, more_threads = used()
    assert grown - memory < 16 * 1024, "kB"
    assert more_threads <= threads


def test_decord_is_imported_without_cuda() -> None:
    program = """
import sys, types
from pathlib import Path
before = sys.modules["nvidia"] = types.ModuleType("nvidia")
from datamodules.video.decord_reader import import_decord
import_decord()
assert sys.modules["nvidia"] is before
del sys.modules["nvidia"]
import_decord()
assert "nvidia" not in sys.modules
maps = Path("/proc/self/maps")
assert not maps.exists() or "libcublas" not in maps.read_text()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_importing_the_reader_imports_no_decoder() -> None:
    program = "import sys, datamodules.video.reader; assert not {'av', 'decord'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_without_decord_the_exact_reader_is_named(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    info = probe_video(plain)
    assert info.decoder == "pyav"
    assert "decord" in info.reason


def test_a_hanging_decord_is_left_behind(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(*_: object) -> NDArray[np.uint8]:
        release.wait(20)
        raise IndexError

    monkeypatch.setattr(decord_reader.DecordReader, "read", hang)
    monkeypatch.setattr(video_reader, "_DECORD_PATIENCE_S", 0.2)
    start = time.monotonic()
    info = probe_video(plain)
    release.set()
    assert time.monotonic() - start < 10
    assert (info.decoder, info.reason) == ("pyav", "decord gave no answer within 0 s")
