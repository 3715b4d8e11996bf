"""A dask scheduler and its workers in processes of their own, as on several machines."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


class Cluster:
    """Processes of one cluster on the loopback device.

    Args:
        folder: For their files and logs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start("scheduler", "--port", "0", "--no-dashboard")
        end = time.monotonic() + 60
        while not self._file.exists() and time.monotonic() < end:
            time.sleep(0.05)

    @property
    def address(self) -> str:
        """Where the scheduler listens."""
        import json

        return str(json.loads(self._file.read_text())["address"])

    def add_worker(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a worker of one thread; it joins when it is ready."""
        return self._start("worker", "--nthreads", "1", "--memory-limit", "0", *words)

    def _start(self, what: str, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *words]
        command += ["--host", "127.0.0.1", "--scheduler-file", str(self._file)]
        with (self._folder / f"{what}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process


@contextmanager
def dask_cluster(folder: Path) -> Iterator[Cluster]:
    """Run a scheduler without workers until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        # Workers first: they would wait for a scheduler that is gone.
        for process in reversed(cluster.processes):
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
