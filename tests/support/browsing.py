"""A browser without a screen, and a server for it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import cv2
import httpx2
import numpy as np
import psutil

from tests.support.cartoon import blank, draw_face

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

#: First the one made for this: without windows, extensions and services of a desktop.
_NAMES = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
FPS, HEIGHT, WIDTH = 25, 240, 400
#: Frames of the video, and those of them without a face.
NUM_FRAMES, WITHOUT = 50, range(20, 30)


def find_chromium() -> str | None:
    """Find the system's Chromium, None if there is none."""
    return next((path for path in map(shutil.which, _NAMES) if path), None)


def chromium_is_missing() -> str:
    """Say why no browser can be driven; empty if one can."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not installed"
    return (
        ""
        if find_chromium()
        else "no Chromium is installed (apt-get install chromium-headless-shell)"
    )


@contextmanager
def chromium() -> Iterator[Browser]:
    """Open the browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium())
        yield browser
        browser.close()


@contextmanager
def patient(seconds: float) -> Iterator[None]:
    """End the browsers of this process if what follows takes longer.

    The driver waits for scripts of a page without any limit, so that a browser that hangs would
    hold the tests for good. What hung is told by its processes, as they were.

    Raises:
        TimeoutError: A browser had to be ended.
    """
    found: list[str] = []

    def end() -> None:
        browsers = [p for p in psutil.Process().children(recursive=True) if "chrom" in p.name()]
        found.extend(map(_describe, browsers))
        for browser in browsers:
            with suppress(psutil.NoSuchProcess):
                browser.kill()

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if found:
            told = "\n".join([f"the browser hung for {seconds:g} s; its processes were:", *found])
            raise TimeoutError(f"{told}\nload: {os.getloadavg()}")


def _describe(process: psutil.Process) -> str:
    with suppress(psutil.Error), process.oneshot():
        kind = next((a for a in process.cmdline() if a.startswith("--type")), "--type=browser")
        used, memory = process.cpu_times(), process.memory_info().rss >> 20
        return (
            f"{process.pid} {kind} {process.status()} nice {process.nice()}, CPU "
            f"{used.user + used.system:.0f} s, {memory} MiB, {process.num_threads()} threads"
        )
    return f"{process.pid} gone"


class Watched:
    """A page, with all that it says and asks for.

    Attributes:
        page: The page.
        said: Warnings and errors of the console, errors of scripts, dialogs.
        asked: Addresses that were asked for.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", self._see)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(message.text)

    def _see(self, request: Request) -> None:
        self.asked.append(request.url)


@contextmanager
def served(program: Sequence[str], state: Path, **settings: str) -> Iterator[str]:
    """Run a server on loopback.

    Args:
        program: Module and its arguments.
        state: Its folder.
        settings: Variables of its environment without `FORGERY_`.

    Yields:
        Its address.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"PORT": str(port), "STATE_DIR": str(state), "WORKERS": "1", "UNCONFINED": "true"}
    given |= {"MIN_FREE_MB": "0", "DRAIN_S": "0", "RATE": "1000/second"} | settings
    environment = os.environ | {f"FORGERY_{name}": value for name, value in given.items()}
    url = f"http://127.0.0.1:{port}"
    log = state.with_suffix(".log")
    with (
        log.open("wb") as said,
        subprocess.Popen(
            [sys.executable, "-m", *program], env=environment, stdout=said, stderr=said
        ) as server,
    ):
        try:
            _wait_for(server, url, log)
            yield url
        finally:
            server.kill()


def _wait_for(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(httpx2.TransportError):
            if httpx2.get(f"{url}/healthcheck").status_code == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")


def write_talk(path: Path) -> Path:
    """Write a video with one face that grows brighter, and is away for a while."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(NUM_FRAMES):
            picture = blank(HEIGHT, WIDTH)
            if number not in WITHOUT:
                picture = draw_face(picture, (120 + 2 * number, 105), 55)
            shown = np.clip(picture * (0.6 + 0.6 * number / NUM_FRAMES), 0, 255).astype(np.uint8)
            shown = np.ascontiguousarray(cv2.GaussianBlur(shown, (3, 3), 0))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())
    return path
