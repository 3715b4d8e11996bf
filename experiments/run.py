"""`python -m experiments.run`: fit, validate, test or predict with one experiment.

Light on purpose: help and mistakes answer before torch is imported.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.errors import UsageError, told
from experiments.run_folder import run_folder
from experiments.shorthand import USAGE, Shorthand, expand, parse_shorthand

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Exit code for a user's mistake, as argparse has it.
USAGE_EXIT = 2


def main(argv: list[str] | None = None) -> int:
    """Run one stage.

    Args:
        argv: Arguments after the program's name; None takes them from the process.

    Returns:
        Exit code: 0 done, 2 a mistake that the user can mend (said in one line).
    """
    words = sys.argv[1:] if argv is None else argv
    # Threads that wait by spinning starve each other as soon as another program wants a core:
    # steps of 1.5 s took up to 24 s. Must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        typed = parse_shorthand(words)
        if typed.wants_help:
            sys.stdout.write(USAGE)
            return 0
        arguments = expand(typed)
        _check_packages()
        _check_gpus(typed, words)
    except UsageError as error:
        return fail(error)
    if typed.notes:
        sys.stdout.write(f"{'; '.join(typed.notes)}\n")
        sys.stdout.flush()
    return _run(typed, arguments)


def fail(error: Exception) -> int:
    """Say a user's mistake in one line on standard error.

    Args:
        error: What went wrong; its text names the thing and the remedy.

    Returns:
        The exit code for it.
    """
    sys.stderr.write(f"error: {told(error)}\n")
    return USAGE_EXIT


def _run(typed: Shorthand, arguments: list[str]) -> int:
    # Its import would ask the package index for news.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from callbacks import LedgerError
    from datamodules.errors import DataError
    from experiments.cli import run_stage
    from weights.errors import WeightsError

    mendable = (
        *(DataError, WeightsError, UsageError, LedgerError),
        *(MisconfigurationException, FloatingPointError, OSError),
    )
    try:
        named = typed.stage == "fit" and "run" in typed.options
        with _new_folder(run_folder(typed), named) as folder:
            run_stage(typed, arguments, folder)
    except mendable as error:
        return fail(error)
    return 0


@contextmanager
def _new_folder(folder: Path, named: bool) -> Iterator[Path]:
    try:
        yield folder
    finally:
        # The empty folder of a mistyped command would look like a run; one that was named stays.
        if not named:
            with suppress(OSError):
                folder.rmdir()


def _check_packages() -> None:
    # Other projects own the names `callbacks` and `experiments` too; from another working
    # directory an installed one would win without a word.
    if find_spec("pytorch_lightning") is None:
        raise UsageError(
            "this Python lacks the suite's packages; run `make install`, "
            "then `source .venv/bin/activate`"
        )
    spec = find_spec("callbacks")
    here = Path(__file__).resolve().parents[1]
    found = Path(str(spec.origin if spec else "")).resolve().parents[1]
    if found != here:
        raise UsageError(
            f"the package `callbacks` of {found} was imported instead of ours; "
            f"run from the repository's root: cd {here}"
        )


def _check_gpus(typed: Shorthand, words: list[str]) -> None:
    wanted = int(typed.options.get("gpus", "0"))
    if not wanted:
        return
    import torch

    there = torch.cuda.device_count()
    if wanted > there:
        position = next(i for i, w in enumerate(words) if w.split("=")[0] == "--gpus")
        length = 1 if "=" in words[position] else 2
        retyped = [*words[:position], "--gpus", str(there), *words[position + length :]]
        if there < 2 and typed.options.get("strategy", "").startswith("ddp"):
            retyped = [w for w in retyped if w not in ("--strategy", typed.options["strategy"])]
        raise UsageError(
            f"--gpus {wanted}: this machine has {there or 'no'} GPU{'s' if there > 1 else ''}; "
            f"type: python -m experiments.run {' '.join(retyped)}"
        )


if __name__ == "__main__":
    sys.exit(main())
