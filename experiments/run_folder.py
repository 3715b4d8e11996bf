"""Where a run writes: one folder, the same on every process of the run."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.shorthand import Shorthand

#: Passes the folder from the first process to the ones that DDP starts.
ENVIRONMENT = "FORGERY_RUN_FOLDER"
#: Identifiers that all processes of one launch share; without one the time is taken.
_LAUNCH_IDS = ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID")


def run_folder(typed: Shorthand) -> Path:
    """Choose the folder, and remember it for processes that are started later.

    A fit writes `runs/<experiment>-<data>-<stamp>` or the folder that was named; any other stage of
    a run writes a folder inside that run, so that it never changes what the fit left.

    Args:
        typed: The understood command line.

    Returns:
        The folder; it is not created here.
    """
    inherited = os.environ.get(ENVIRONMENT)
    if inherited:
        return Path(inherited)
    options = typed.options
    data = options.get("data", "own")
    if "resume" in options:
        folder = Path(options["resume"])
    elif "run" in options and typed.stage == "fit":
        folder = Path(options["run"])
    elif "run" in options:
        folder = Path(options["run"]) / typed.stage / f"{data}-{_stamp()}"
    else:
        prefix = "" if typed.stage == "fit" else f"{typed.stage}-"
        folder = Path("runs") / f"{prefix}{options.get('exp', 'run')}-{data}-{_stamp()}"
    folder = folder.resolve()
    os.environ[ENVIRONMENT] = str(folder)
    return folder


def _stamp() -> str:
    for name in _LAUNCH_IDS:
        value = os.environ.get(name, "none")
        if value != "none":
            return value
    return datetime.now().strftime("%Y%m%d-%H%M%S")
