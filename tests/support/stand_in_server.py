"""`python -m tests.support.stand_in_server SECONDS`: a server whose videos take that long."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import httpx2

from experiments.serving import logs
from experiments.serving.engine import Engine
from experiments.serving.running import run_server
from experiments.serving.settings import Settings
from tests.support.serving import StandIn, quick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Running(NamedTuple):
    """A server in a process of its own."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def running(state: Path, seconds: float = 0.0, **settings: str) -> Iterator[Running]:
    """Run the server; settings are those of `Settings`, in capitals."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"PORT": str(port), "STATE_DIR": str(state), "UNCONFINED": "true"}
    given |= {"MIN_FREE_MB": "0"} | settings
    environment = os.environ | {f"FORGERY_{name}": value for name, value in given.items()}
    program = [sys.executable, "-m", "tests.support.stand_in_server", str(seconds)]
    with subprocess.Popen(program, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: httpx2.get(f"{url}/healthcheck").status_code == 200)
            yield Running(url, process)
        finally:
            process.kill()


def wait_for(true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx2.TransportError):
            if true():
                return
        time.sleep(0.05)
    raise AssertionError("it never came")


if __name__ == "__main__":
    logs.set_up()
    options = {"wait_s": float(sys.argv[1])}
    run_server(Engine(Settings(), lambda: [StandIn()], quick, options=options))
