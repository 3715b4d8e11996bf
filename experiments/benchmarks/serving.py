"""Load and leaks of the server: ten times what it can do for a minute, and jobs one by one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.benchmarks.machine import at_least_one, processor
from experiments.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

#: Videos that are scored one by one to learn the capacity, and to let caches fill. [ours]
_WARM = 10
#: Seconds that an answer may take. [ours]
_PATIENCE_S = 300.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark.

    Args:
        parser: Of the command line.
    """
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="runs/<run>")
    parser.add_argument("--video", type=Path, required=True, metavar="FILE", help="what is sent")
    parser.add_argument("--seconds", type=at_least_one, default=60, help="of the load (60)")
    parser.add_argument("--factor", type=at_least_one, default=10, help="times the capacity (10)")
    parser.add_argument("--jobs", type=at_least_one, default=200, help="one after another (200)")
    parser.add_argument("--workers", type=at_least_one, default=1, help="videos at once (1)")
    parser.add_argument("--queue", type=at_least_one, default=8, help="jobs that wait (8)")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Measure a server in a process of its own.

    Args:
        options: As added.

    Yields:
        Lines for the screen.

    Raises:
        UsageError: There is no such video, or the server does not come up.
    """
    if not options.video.is_file():
        raise UsageError(f"--video: {options.video} does not exist")
    content = options.video.read_bytes()
    with (
        tempfile.TemporaryDirectory(prefix="serve-") as folder,
        _server(options, Path(folder)) as server,
    ):
        yield f"{processor()}; {options.workers} worker(s), {options.queue} places in the queue"
        capacity = _capacity(server, content)
        yield f"capacity: {capacity:.2f} videos/s ({options.video.name}, one by one)"
        load = asyncio.run(_load(server, content, capacity * options.factor, options.seconds))
        yield from load.lines(options.seconds)
        yield from _leaks(server, content, options.jobs)


@dataclass(frozen=True)
class _Server:
    """A running server."""

    url: str
    pid: int
    folder: Path

    def state(self) -> dict[str, int]:
        """Count what could leak."""
        process = Path(f"/proc/{self.pid}")
        family = _family(self.pid)
        return {
            "MiB": sum(_resident_mib(pid) for pid in family),
            "files open": len(list((process / "fd").iterdir())),
            "threads": len(list((process / "task").iterdir())),
            "processes": len(family),
            "files kept": sum(1 for path in self.folder.rglob("*") if path.is_file()),
        }


def _family(pid: int) -> list[int]:
    """List a process and all its descendants."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return found


def _resident_mib(pid: int) -> int:
    """Read the private and shared memory of a process, 0 if it is gone."""
    with suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 2**20
    return 0


@contextmanager
def _server(options: argparse.Namespace, folder: Path) -> Iterator[_Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    often = "1000000/second"
    program = [sys.executable, "-m", "experiments.serve", "--run", str(options.run)]
    flags = {"--port": port, "--state-dir": folder / "state", "--rate": often, "--wait-s": 120}
    flags |= {"--read-rate": often, "--workers": options.workers, "--queue": options.queue}
    flags |= {"--share": options.queue + options.workers}  # the load is one client
    words = [str(word) for pair in flags.items() for word in pair]
    environment = os.environ | {"TMPDIR": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*program, *words], stderr=log, env=environment)
        server = _Server(f"http://127.0.0.1:{port}", process.pid, folder)
        try:
            _until_healthy(server, process)
            yield server
            process.send_signal(signal.SIGTERM)
            process.wait(120)
        finally:
            process.kill()
            process.wait()


def _until_healthy(server: _Server, process: subprocess.Popen[bytes]) -> None:
    import httpx2

    while process.poll() is None:
        with suppress(httpx2.TransportError):
            if httpx2.get(f"{server.url}/healthcheck").status_code == 200:
                return
        time.sleep(0.2)
    lines = (server.folder / "log").read_text(encoding="utf-8").strip().splitlines()
    raise UsageError(f"the server did not come up: {lines[-1] if lines else 'it said nothing'}")


def _capacity(server: _Server, content: bytes) -> float:
    """Score videos one by one; videos a second."""
    start = time.monotonic()
    for _ in range(_WARM):
        _score_one(server, content)
    return _WARM / (time.monotonic() - start)


def _score_one(server: _Server, content: bytes) -> None:
    import httpx2

    files = {"file": content}
    answer = httpx2.post(f"{server.url}/predict", files=files, timeout=_PATIENCE_S)
    if answer.status_code != 200:
        raise UsageError(f"--video: it cannot be scored: {answer.text[:200]}")
    httpx2.delete(server.url + answer.headers["content-location"])


@dataclass
class _Load:
    """What a minute under load showed."""

    sent: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    retry_after: int = 0
    states: list[dict[str, int]] = field(default_factory=list)
    healthy: Counter[bool] = field(default_factory=Counter)

    def note(self, end: str, seconds: float) -> None:
        self.seconds.setdefault(end, []).append(seconds)

    def lines(self, seconds: int) -> Iterator[str]:
        yield f"load: {self.sent} requests in {seconds} s ({self.sent / seconds:.1f}/s)"
        for end, times in sorted(self.seconds.items()):
            p50, p95, p99 = np.percentile(times, (50, 95, 99))
            yield f"  {end}: {len(times)}, p50 {p50:.3f} s, p95 {p95:.3f} s, p99 {p99:.3f} s"
        yield f"  refusals with Retry-After: {self.retry_after}"
        yield f"  health checks: {self.healthy[True]} well, {self.healthy[False]} not"
        first, last = self.states[0], self.states[-1]
        for name in first:
            most = max(state[name] for state in self.states)
            yield f"  {name}: {first[name]} at the start, {most} at most, {last[name]} at the end"


async def _load(server: _Server, content: bytes, rate: float, seconds: int) -> _Load:
    """Send requests at a rate, whether or not earlier ones were answered."""
    import httpx2

    load = _Load(states=[server.state()])
    limits = httpx2.Limits(max_connections=400)
    async with httpx2.AsyncClient(timeout=_PATIENCE_S, limits=limits) as client:

        async def one() -> None:
            start = time.monotonic()
            try:
                answer = await client.post(f"{server.url}/predict", files={"file": content})
            except httpx2.HTTPError as error:
                load.note(type(error).__name__, time.monotonic() - start)
                return
            load.note(str(answer.status_code), time.monotonic() - start)
            load.retry_after += "retry-after" in answer.headers

        start = time.monotonic()
        sent: list[asyncio.Task[None]] = []
        while (now := time.monotonic() - start) < seconds:
            while len(sent) < now * rate:
                sent.append(asyncio.create_task(one()))
            if int(now * 2) > len(load.states):
                load.states.append(server.state())
                health = await client.get(f"{server.url}/healthcheck")
                load.healthy[health.status_code == 200] += 1
            await asyncio.sleep(0.01)
        load.sent = len(sent)
        await asyncio.gather(*sent)
    await asyncio.sleep(2)
    load.states.append(server.state())
    return load


def _leaks(server: _Server, content: bytes, jobs: int) -> Iterator[str]:
    """Score videos one by one, and compare what is held before and after."""
    before = server.state()
    times = []
    for _ in range(jobs):
        start = time.monotonic()
        _score_one(server, content)
        times.append(time.monotonic() - start)
    time.sleep(2)
    after = server.state()
    p50, p95, p99 = np.percentile(times, (50, 95, 99))
    yield f"one by one: {jobs} jobs, p50 {p50:.3f} s, p95 {p95:.3f} s, p99 {p99:.3f} s"
    for name in before:
        yield f"  {name}: {before[name]} before, {after[name]} after"
