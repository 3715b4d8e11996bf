"""Start the programs of the suite as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.run import main
from experiments.run_folder import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]


def start(
    module: str, *words: str, timeout_s: float = 300, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE WORDS` from the repository's root, one thread a process.

    Args:
        module: The program.
        words: Its arguments.
        timeout_s: Give up after so many seconds.
        variables: Added to the environment.
    """
    environment = {k: v for k, v in os.environ.items() if k not in (ENVIRONMENT, "WANDB_API_KEY")}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **variables}
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def run_here(*words: str) -> int:
    """Run `python -m experiments.run WORDS` in this process, which need not start first.

    Args:
        words: Its arguments.

    Returns:
        Its exit code.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in (ENVIRONMENT, "WANDB_API_KEY"):
            patch.delenv(name, raising=False)
        try:
            return main(list(words))
        finally:
            os.environ.pop(ENVIRONMENT, None)
