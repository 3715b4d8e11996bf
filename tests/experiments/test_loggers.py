"""Loggers: what they must not break."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FORKED_IMPORT = """
import multiprocessing
import sys
from pathlib import Path

from experiments.loggers import finish_loggers, make_loggers
from experiments.shorthand import Shorthand

def load():
    import albumentations  # W&B counts who imports it

if __name__ == "__main__":
    typed = Shorthand(options={"wandb": "offline"})
    for logger in make_loggers(typed, Path(sys.argv[1]), "fit"):
        _ = logger.experiment
    assert "albumentations" not in sys.modules
    worker = multiprocessing.get_context("fork").Process(target=load)
    worker.start()
    worker.join()
    finish_loggers()
    sys.exit(worker.exitcode)
"""


def test_loading_processes_import_what_wandb_counts(tmp_path: Path) -> None:
    # Augmentations are imported by the processes that load, after W&B has started.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORKED_IMPORT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"},
    )
    assert done.returncode == 0, done.stderr
