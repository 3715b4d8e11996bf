"""The page in a browser: nothing is complained of, all is drawn, in light and dark."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from experiments.compare import main
from tests.support.run_folders import write_run

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or ""
#: Colours of the first two runs on the page, light and dark, RGB.
RUNS = {0: [(98, 174, 245), (255, 154, 87)], 1: [(11, 98, 176), (196, 80, 10)]}
PAPER = {0: (20, 23, 29), 1: (255, 255, 255)}


def picture(page: Path, scheme: int, folder: Path) -> tuple[np.ndarray, str]:
    """Open a page with one colour scheme (0 dark, 1 light)."""
    shot = folder / f"{scheme}.png"
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr",
            f"--user-data-dir={folder / f'profile{scheme}'}", "--window-size=1366,6000",
            f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={shot}",
            page.as_uri(),
        ],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return cv2.cvtColor(cv2.imread(str(shot)), cv2.COLOR_BGR2RGB), done.stderr


def count(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(image.astype(int) - colour).max(axis=2) <= 3).sum())


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="needs Chromium")
def test_six_runs_in_a_browser(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"run{n}", f"e{n}", n, 0.4 + n / 4, people=60) for n in range(6)]
    start = time.process_time()
    assert main([*map(str, runs), "--out", str(tmp_path / "out")]) == 0
    assert time.process_time() - start < 30
    page = tmp_path / "out" / "index.html"
    assert page.stat().st_size < 5_000_000
    for scheme in (0, 1):
        image, told = picture(page, scheme, tmp_path)
        assert "CONSOLE" not in told
        assert tuple(image[5, 5]) == PAPER[scheme]
        for colour in RUNS[scheme]:
            assert count(image, colour) > 1000
        # Text and axes are far from the paper.
        lightness = image.astype(float).mean(axis=2)
        assert np.ptp(lightness) > 180
