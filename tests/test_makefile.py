"""What a user types reaches the programs as it was typed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    "path", ["/a b/it's", "/a$b $(touch x)", '/a "b" `c`', "s3://bucket/my videos", "/é 视频"]
)
def test_paths_reach_the_program(path: str) -> None:
    goal = ["make", "--dry-run", "data", f"ROOT={path}", f"OUT={path}/out", "ENGINE=dask"]
    done = subprocess.run(goal, cwd=ROOT, capture_output=True, text=True, check=True)
    command = next(line for line in done.stdout.splitlines() if "datamodules.preprocess" in line)
    words = shlex.split(command)
    assert words[words.index("--dataset") + 1] == path
    assert words[words.index("--output") + 1] == f"{path}/out"
    assert words[words.index("--engine") + 1] == "dask"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("path", ["/a b/it's", "/a$b $(touch x)"])
def test_paths_of_an_export_reach_the_program(path: str) -> None:
    goal = ["make", "--dry-run", "export", f"MANIFEST={path}", f"OUT={path}/out"]
    done = subprocess.run(goal, cwd=ROOT, capture_output=True, text=True, check=True)
    test, command = (
        next(line for line in done.stdout.splitlines() if word in line)
        for word in ("test -n", "datamodules.datasets.export")
    )
    assert shlex.split(test)[:5] == ["test", "-n", path, "-a", "-n"]
    words = shlex.split(command)
    assert words[words.index("--manifest") + 1] == path
    assert words[words.index("--output") + 1] == f"{path}/out"
