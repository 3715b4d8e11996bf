"""What made fakes and alternate freezing change: trainings on one kind of fake, tests on three.

    python -m experiments.benchmark effect [--seeds 1 2 3] [--out runs/effect] [--at-once 1]
                                           [--arguments="--trainer.max_epochs=2"]

Trains I3D without fakes made while training, I3D with them, and AltFreezing with them, on demo
videos whose fakes are wrong in space and in time at once. A network may then rely on either; the
tests, on videos of people never trained on, tell on which: their fakes are wrong in time alone, in
space alone, or in both. All trainings have the same videos, steps and clips. Each is a run of the
command line; what an earlier call has finished in the same folder is
not done again, so other arguments want another --out.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from experiments.benchmarks.machine import at_least_one, processor
from experiments.errors import UsageError
from experiments.run_folder import ENVIRONMENT

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

#: Kinds of fakes that are tested on; training has the last.
PROBES = ("temporal", "spatial", "both")
#: The data and the budget of all trainings, in arguments of the command line. People are many and
#: errors large, so that a network of 27 M parameters learns from scratch in minutes. [ours]
SETTING = (
    *("--data", "demo", "--wandb", "off"),
    "--data.init_args.num_identities=200",
    "--data.init_args.videos_per_identity=1",
    "--data.init_args.temporal_strength=7",
    "--data.init_args.spatial_strength=1",
    "--data.init_args.eval_clips_per_video=2",
    "--trainer.max_epochs=12",
    "--trainer.check_val_every_n_epoch=3",
)
#: What is compared: experiment and arguments, by its name in the table.
CONDITIONS: dict[str, tuple[str, ...]] = {
    "i3d": ("--exp", "i3d", "--data.init_args.fake_from_real=null"),
    "i3d + made fakes": ("--exp", "i3d"),
    "altfreezing + made fakes": ("--exp", "altfreezing"),
}
#: Lines of a failed run that are shown.
_TAIL = 5


class Training(NamedTuple):
    """One training: a condition and a seed."""

    condition: str
    seed: int

    @property
    def name(self) -> str:
        """Name its folder."""
        return f"{self.condition.replace(' + made fakes', '-fakes')}-{self.seed}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark to a parser."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="one run each")
    parser.add_argument("--out", type=Path, default=Path("runs/effect"), help="folder of the runs")
    parser.add_argument("--at-once", type=at_least_one, default=1, help="trainings side by side")
    parser.add_argument(
        "--arguments", default="", help="more of experiments.run, for all trainings"
    )


def run(options: argparse.Namespace) -> Iterator[str]:
    """Train and test what is not there yet, and report.

    Args:
        options: What `add_options` added.

    Yields:
        Lines of a report: a table of means and deviations over seeds, then every figure.

    Raises:
        UsageError: If a run fails.
    """
    trainings = [Training(condition, seed) for seed in options.seeds for condition in CONDITIONS]
    more = shlex.split(options.arguments)
    with ThreadPoolExecutor(options.at_once) as pool:
        # A later training must not start where an earlier one has failed.
        jobs = [pool.submit(_train_and_test, t, options.out.resolve(), more) for t in trainings]
        try:
            measured = {t: job.result() for t, job in zip(trainings, jobs, strict=True)}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    yield f"{processor('cpu')}; test video AUC, mean +- deviation over seeds {options.seeds}"
    yield from _table(measured, options.seeds)
    yield ""
    yield from _every_figure(measured)


def _train_and_test(
    training: Training, out: Path, more: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Give the metrics of each probe."""
    folder = out / training.name
    if not (folder / "metrics.json").is_file():
        if (folder / "checkpoints" / "last.ckpt").is_file():
            _call("fit", "--resume", str(folder), "--wandb", "off")
        else:
            _call("fit", "--run", str(folder), *_arguments(training), *more)
    # A fit ends with a test on data like those it was trained on.
    results = {PROBES[-1]: folder / "metrics.json"}
    for kind in PROBES[:-1]:
        probe = folder / "test" / kind
        results[kind] = probe / "metrics.json"
        if not results[kind].is_file():
            kinds = f"--data.init_args.kinds=[{kind}]"
            _call("test", "--run", str(folder), "--wandb", "off", kinds, folder=probe)
    return {kind: json.loads(results[kind].read_text())["test"] for kind in PROBES}


def _arguments(training: Training) -> list[str]:
    seeds = (f"--seed_everything={training.seed}", f"--data.init_args.seed={training.seed}")
    kinds = f"--data.init_args.kinds=[{PROBES[-1]}]"
    return [*CONDITIONS[training.condition], *SETTING, *seeds, kinds]


def _call(stage: str, *words: str, folder: Path | None = None) -> None:
    environment = {k: v for k, v in os.environ.items() if k != ENVIRONMENT}
    if folder is not None:
        environment[ENVIRONMENT] = str(folder)
    command = [sys.executable, "-m", "experiments.run", stage, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = " | ".join(done.stderr.strip().splitlines()[-_TAIL:])
        raise UsageError(f"`{shlex.join(command[1:])}` failed: {tail}")


def _table(
    measured: dict[Training, dict[str, dict[str, float]]], seeds: Sequence[int]
) -> Iterator[str]:
    yield f"| trained | {' | '.join(PROBES)} |"
    yield f"|---|{'---|' * len(PROBES)}"
    for condition in CONDITIONS:
        cells = []
        for kind in PROBES:
            aucs = [measured[Training(condition, seed)][kind]["video_auc"] for seed in seeds]
            spread = statistics.stdev(aucs) if len(aucs) > 1 else float("nan")
            cells.append(f"{statistics.mean(aucs):.3f} +- {spread:.3f}")
        yield f"| {condition} | {' | '.join(cells)} |"


def _every_figure(measured: dict[Training, dict[str, dict[str, float]]]) -> Iterator[str]:
    yield f"| trained | seed | {' | '.join(f'{kind} [95 %]' for kind in PROBES)} |"
    yield f"|---|---|{'---|' * len(PROBES)}"
    for training, metrics in sorted(measured.items()):
        cells = [
            "{video_auc:.3f} [{video_auc_low:.3f}, {video_auc_high:.3f}]".format(**metrics[kind])
            for kind in PROBES
        ]
        yield f"| {training.condition} | {training.seed} | {' | '.join(cells)} |"
