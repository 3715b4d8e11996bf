"""What made fakes, alternate freezing and video-level blending change: trainings and their tests.

    python -m experiments.benchmark effect [--study freezing|video_blend] [--root <prepared>]
                                           [--seeds 1 2 3] [--out runs/effect-STUDY] [--at-once 1]
                                           [--arguments="--trainer.max_epochs=2"]

`freezing` trains I3D without fakes made while training, I3D with them, and AltFreezing with them,
on demo videos whose fakes are wrong in space and in time at once. `video_blend` trains a small StA
on demo fakes that are still in time: without blends, with blends for half of the fakes, and with
blends alone. The tests, on videos of people never trained on, tell what a network relies on: their
fakes are wrong in time alone, in space alone, or in both. With --root all is trained and tested on
a prepared store instead, and reported with its same-footage pairs where it knows such.

All trainings of a study have the same videos, steps and clips. Each is a run of the command line;
what an earlier call has finished in the same folder is not done again, so other arguments want
another --out.
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

#: Kinds of demo fakes that are tested on.
KINDS = ("temporal", "spatial", "both")


class Study(NamedTuple):
    """What is compared, and on what.

    Attributes:
        kind: Demo fakes that are trained on.
        demo: Budget on the demo data, in arguments of the command line.
        store: The same on a prepared store.
        conditions: Experiment and arguments, by name in the table.
    """

    kind: str
    demo: tuple[str, ...]
    store: tuple[str, ...]
    conditions: dict[str, tuple[str, ...]]


_REAL = "--data.init_args.fake_from_real"
#: People are many and errors large, so that networks learn from scratch in minutes. [ours]
STUDIES = {
    "freezing": Study(
        "both",
        (
            "--data.init_args.num_identities=200",
            "--data.init_args.videos_per_identity=1",
            "--data.init_args.temporal_strength=7",
            "--data.init_args.spatial_strength=1",
            "--data.init_args.eval_clips_per_video=2",
            "--trainer.max_epochs=12",
            "--trainer.check_val_every_n_epoch=3",
        ),
        ("--model.init_args.weights=none", "--data.init_args.image_size=64"),
        {
            "i3d": ("--exp", "i3d", f"{_REAL}=null"),
            "i3d + made fakes": ("--exp", "i3d"),
            "altfreezing + made fakes": ("--exp", "altfreezing"),
        },
    ),
    "video_blend": Study(
        "spatial",
        (
            "--data.init_args.num_identities=200",
            "--data.init_args.videos_per_identity=1",
            "--data.init_args.temporal_strength=7",
            "--data.init_args.spatial_strength=1",
            "--data.init_args.generator_scale=2",
            "--data.init_args.eval_clips_per_video=2",
            "--trainer.max_epochs=24",
            "--trainer.check_val_every_n_epoch=4",
        ),
        (
            "--model.init_args.weights=none",
            "--model.init_args.encoder=ViT-B-32-quickgelu",
            "--model.init_args.num_layers=3",
            "--model.init_args.tower={width: 64, head_width: 16, patch_size: 8}",
            "--model.init_args.train_tower=true",
            "--data.init_args.image_size=64",
            "--trainer.max_epochs=12",
            "--trainer.check_val_every_n_epoch=3",
        ),
        {
            "sta": ("--exp", "sta_vb", f"{_REAL}=null"),
            "sta + blends": ("--exp", "sta_vb", f"{_REAL}.real_fakes=0.5"),
            "sta, blends alone": ("--exp", "sta_vb", f"{_REAL}.real_fakes=0"),
        },
    ),
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
        words = self.condition.replace(" + made fakes", "-fakes").replace(",", "").split()
        return f"{'-'.join(word for word in words if word != '+')}-{self.seed}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark to a parser."""
    parser.add_argument("--study", choices=[*STUDIES], default="freezing", help="what is compared")
    parser.add_argument("--root", type=Path, help="a prepared store instead of the demo data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="one run each")
    parser.add_argument("--out", type=Path, help="folder of the runs (runs/effect-STUDY)")
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
    study = STUDIES[options.study]
    out = (options.out or Path("runs") / f"effect-{options.study}").resolve()
    trainings = [Training(name, seed) for seed in options.seeds for name in study.conditions]
    words = (*_data(study, options.root), *shlex.split(options.arguments))
    probes = () if options.root else tuple(kind for kind in KINDS if kind != study.kind)
    with ThreadPoolExecutor(options.at_once) as pool:
        # A later training must not start where an earlier one has failed.
        jobs = [
            pool.submit(_train_and_test, out / t.name, (*_arguments(study, t), *words), probes)
            for t in trainings
        ]
        try:
            figures = [job.result() for job in jobs]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    measured = dict(zip(trainings, figures, strict=True))
    if not options.root:
        measured = {t: _by_kind(study, found) for t, found in measured.items()}
    yield f"{processor('cpu')}; test video AUC, mean +- deviation over seeds {options.seeds}"
    yield from _table(measured, options.seeds)
    yield ""
    yield from _every_figure(measured)


def _data(study: Study, root: Path | None) -> tuple[str, ...]:
    if root is not None:
        return ("--data", "folder", "--root", str(root), "--wandb", "off", *study.store)
    kinds = f"--data.init_args.kinds=[{study.kind}]"
    return ("--data", "demo", "--wandb", "off", kinds, *study.demo)


def _by_kind(study: Study, found: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Name the fit's own test by the kind of fakes it has; all kinds in their order."""
    named = {study.kind if name == "test" else name: figures for name, figures in found.items()}
    return {kind: named[kind] for kind in KINDS}


def _train_and_test(
    folder: Path, words: Sequence[str], probes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Give the metrics of the fit's own test, perhaps of its pairs, and of each probe."""
    if not (folder / "metrics.json").is_file():
        if (folder / "checkpoints" / "last.ckpt").is_file():
            _call("fit", "--resume", str(folder), "--wandb", "off")
        else:
            _call("fit", "--run", str(folder), *words)
    # A fit ends with a test on data like those it was trained on.
    results: dict[str, dict[str, float]] = json.loads((folder / "metrics.json").read_text())
    for kind in probes:
        probe = folder / "test" / kind
        if not (probe / "metrics.json").is_file():
            kinds = f"--data.init_args.kinds=[{kind}]"
            _call("test", "--run", str(folder), "--wandb", "off", kinds, folder=probe)
        results[kind] = json.loads((probe / "metrics.json").read_text())["test"]
    return results


def _arguments(study: Study, training: Training) -> list[str]:
    seeds = (f"--seed_everything={training.seed}", f"--data.init_args.seed={training.seed}")
    return [*study.conditions[training.condition], *seeds]


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
    sets = list(next(iter(measured.values())))
    yield f"| trained | {' | '.join(sets)} |"
    yield f"|---|{'---|' * len(sets)}"
    for condition in dict.fromkeys(training.condition for training in measured):
        cells = []
        for name in sets:
            aucs = [measured[Training(condition, seed)][name]["video_auc"] for seed in seeds]
            spread = statistics.stdev(aucs) if len(aucs) > 1 else float("nan")
            cells.append(f"{statistics.mean(aucs):.3f} +- {spread:.3f}")
        yield f"| {condition} | {' | '.join(cells)} |"


def _every_figure(measured: dict[Training, dict[str, dict[str, float]]]) -> Iterator[str]:
    sets = list(next(iter(measured.values())))
    yield f"| trained | seed | {' | '.join(f'{name} [95 %]' for name in sets)} |"
    yield f"|---|---|{'---|' * len(sets)}"
    for training, metrics in sorted(measured.items()):
        cells = [
            "{video_auc:.3f} [{video_auc_low:.3f}, {video_auc_high:.3f}]".format(**metrics[name])
            for name in sets
        ]
        yield f"| {training.condition} | {training.seed} | {' | '.join(cells)} |"
