"""Measure speed and memory: `python -m experiments.benchmark WHAT`.

A method's name measures its network against the one as released, `freezing` what alternate
freezing saves, `effect` what it and made fakes change in accuracy, `data` the loading of clips
against a loader of frame folders, `video_blend` the forgery of that name against its plain
formulation, `storage` the forms of stored crops, `memory` whether loading leaks, `prepare` the
preparation of videos, `predict` the scoring of a raw video, `report` a report over a ledger of
millions of rows, `serve` the server under load, `explain` whether the maps of a run can be
trusted, `coverage` how often intervals hold the truth. Everything is compared in one run, and
reported as ratios.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from datamodules.errors import DataError
from experiments.command_line import OneLineParser
from experiments.errors import UsageError
from weights.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What can be measured, and the module that does it.
BENCHMARKS = {
    "ftcn_tt": "experiments.benchmarks.network",
    "i3d": "experiments.benchmarks.network",
    "hff": "experiments.benchmarks.network",
    "sta_vb": "experiments.benchmarks.network",
    "freezing": "experiments.benchmarks.freezing",
    "effect": "experiments.benchmarks.effect",
    "data": "experiments.benchmarks.loading",
    "storage": "experiments.benchmarks.storage",
    "memory": "experiments.benchmarks.memory",
    "video_blend": "experiments.benchmarks.video_blending",
    "prepare": "experiments.benchmarks.preparing",
    "predict": "experiments.benchmarks.predicting",
    "report": "experiments.benchmarks.reporting",
    "serve": "experiments.benchmarks.serving",
    "explain": "experiments.benchmarks.explaining",
    "coverage": "experiments.benchmarks.coverage",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: Of the command line; by default the process's own.

    Returns:
        Exit code: 0 done, 2 a mistake that the user can mend.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    what = OneLineParser(
        prog="python -m experiments.benchmark", description=__doc__, add_help=False
    )
    what.add_argument("what", choices=[*BENCHMARKS])
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            sys.stdout.write(f"{__doc__}\nWHAT is one of {', '.join(BENCHMARKS)}\n")
            return 0
        name = what.parse_args(arguments[:1]).what
        module = import_module(BENCHMARKS[name])
        parser = OneLineParser(prog=f"python -m experiments.benchmark {name}")
        module.add_options(parser)
        options = parser.parse_args(arguments[1:])
        options.what = name
        for line in module.run(options):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    except (UsageError, DataError, WeightsError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
