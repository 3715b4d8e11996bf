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
#: Folder of a run that holds its tests under protocols, one folder a set.
EVALUATIONS = "evaluations"
#: Identifiers that all processes of one launch share; without one the time is taken.
_LAUNCH_IDS = ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID")


def run_folder(typed: Shorthand) -> Path:
    """Choose the folder, and remember it for processes that are started later.

    A fit writes `runs/<experiment>-<data>-<stamp>` or the folder that was named; any other stage of
    a run writes a folder inside that run, so that it never changes what the fit left. A new folder
    is made at once: of two runs started in the same second the later one takes another name.

    Args:
        typed: The understood command line.

    Returns:
        The folder.

    Raises:
        OSError: If a new folder cannot be made.
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
        folder = _claim(Path(options["run"]) / typed.stage / data)
    else:
        prefix = "" if typed.stage == "fit" else f"{typed.stage}-"
        folder = _claim(Path("runs") / f"{prefix}{options.get('exp', 'run')}-{data}")
    folder = folder.resolve()
    os.environ[ENVIRONMENT] = str(folder)
    return folder


def _claim(stem: Path) -> Path:
    """Complete a name by a stamp; what all processes of a launch share is not for one to claim."""
    for name in _LAUNCH_IDS:
        value = os.environ.get(name, "none")
        if value != "none":
            return stem.with_name(f"{stem.name}-{value}")
    stamped = stem.with_name(f"{stem.name}-{datetime.now():%Y%m%d-%H%M%S}")
    folder, number = stamped, 1
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            folder = stamped.with_name(f"{stamped.name}-{number}")
        else:
            return folder
