"""The sheet of made fakes: every way is on it, and mistakes are one line."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from datamodules.forgery_preview import main
from tests.support.forging import real_store

if TYPE_CHECKING:
    from pathlib import Path

SMALL = ["--frames", "6", "--size", "48"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return real_store(tmp_path_factory.mktemp("store"))


def test_the_sheet_shows_four_rows_of_every_way(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "sheet.png"
    video = "toy/real/train02"
    arguments = ["--preview", "--root", str(root), "--out", str(out), "--video", video]
    assert main([*arguments, *SMALL]) == 0
    assert capsys.readouterr().out == f"{out}: {video}, seed 0\n"
    sheet = cv2.imread(str(out))
    assert sheet is not None
    assert sheet.shape == (5 * 4 * 48, 150 + 5 * 48, 3)
    rows = sheet[:, 150:].reshape(5, 4, 48, -1, 3).astype(int)
    for kind, (original, mask, fake, difference) in enumerate(rows):
        assert original.std() > 5
        # A quarter of a small drift shows little on smooth pictures.
        assert difference.max() > (50 if kind < 4 else 10)
        # Temporal fakes have no mask; blends change nothing outside of theirs.
        assert bool(mask.any()) == (kind >= 2)
        if kind >= 2:
            assert difference[mask == 0].max() == 0
            text = (fake[..., 0] < 90) & (fake[..., 1:].min(axis=2) > 120)
            outside = (mask.max(axis=2) == 0) & ~text
            assert np.median(np.abs(fake - original)[outside]) == 0


def test_the_same_seed_draws_the_same_sheet(root: Path, tmp_path: Path) -> None:
    for name, seed in (("one", "4"), ("again", "4"), ("other", "5")):
        out = str(tmp_path / f"{name}.png")
        assert main(["--preview", "--root", str(root), "--out", out, "--seed", seed, *SMALL]) == 0
    one, again, other = ((tmp_path / f"{n}.png").read_bytes() for n in ("one", "again", "other"))
    assert one == again != other


def test_the_module_can_be_run(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "datamodules.blending", "--preview", *SMALL]
    out = tmp_path / "sheet.jpg"
    done = subprocess.run([*command, "--root", str(root), "--out", str(out)], check=False)
    assert done.returncode == 0
    assert out.stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "required: --preview"),
        (["--root", "absent"], "absent is no folder"),
        (["--video", "toy/real/none"], "holds no real video toy/real/none"),
        (["--out", "sheet.txt"], "let it end in .png"),
        (["--seed", "-1"], "--seed is -1; it must be at least 0"),
    ],
)
def test_mistakes_are_one_line(
    root: Path,
    tmp_path: Path,
    arguments: list[str],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--preview", "--root", str(root), "--out", str(tmp_path / "s.png"), *arguments]
    assert main(given if arguments else []) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert reason in error
