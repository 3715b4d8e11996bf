"""Which models score: runs, official weight files, or the newest run of each experiment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from callbacks.provenance import CONFIG_NAME
from experiments.errors import UsageError
from experiments.shorthand import CONFIGS, experiment_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.detector import Detector

_CHECKPOINTS = ("checkpoints/best.ckpt", "checkpoints/last.ckpt")


def load_detectors(
    runs: Sequence[Path],
    weights: Sequence[str],
    experiments: Sequence[str],
    *,
    runs_folder: Path = Path("runs"),
    device: str = "auto",
    engine: str = "auto",
) -> list[Detector]:
    """Load all models that were asked for; no two of them are named alike.

    Args:
        runs: Run folders.
        weights: `METHOD:FILE`, weight files of released code by experiment.
        experiments: Names of experiments, each for its newest finished run.
        runs_folder: Where those runs lie.
        device: As `load_detector` takes it.
        engine: As `load_detector` takes it.

    Returns:
        The models, in this order.

    Raises:
        UsageError: If nothing was asked for, or a run, experiment or file is not there.
        WeightsError: If weights are damaged or do not fit.
    """
    from experiments.detector import load_detector, load_weight_file

    if not (runs or weights or experiments):
        raise UsageError("name what scores: --run runs/<run>, --weights METHOD:FILE, or --exp NAME")
    files = [split_weights(text) for text in weights]
    chosen = [*runs, *(newest_run(name, runs_folder) for name in experiments)]
    places = [run.resolve() for run in chosen]
    twice = next((run for run in chosen if places.count(run.resolve()) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is named twice, and would count twice in the average")
    made = [load_detector(run, device, engine) for run in chosen]
    made += [load_weight_file(method, file, device, engine) for method, file in files]
    return _named_apart(made)


def split_weights(text: str) -> tuple[str, Path]:
    """Read `METHOD:FILE`.

    Args:
        text: As typed.

    Returns:
        The name of the experiment, and the file.

    Raises:
        UsageError: If there is no such experiment or file.
    """
    method, colon, name = text.partition(":")
    if not colon or not name:
        raise UsageError(f"--weights takes METHOD:FILE, as ftcn_tt:ftcn_tt.pth, not '{text}'")
    if method not in experiment_names():
        raise UsageError(
            f"--weights: unknown method '{method}'; there are: {', '.join(experiment_names())}"
        )
    if not Path(name).is_file():
        raise UsageError(f"--weights: there is no file {name}")
    return method, Path(name)


def newest_run(experiment: str, runs_folder: Path) -> Path:
    """Find the newest finished run of an experiment.

    Args:
        experiment: Its name.
        runs_folder: Where runs lie.

    Returns:
        The run folder.

    Raises:
        UsageError: If there is no such experiment, or no finished run of it.
    """
    if experiment not in experiment_names():
        raise UsageError(
            f"--exp: unknown experiment '{experiment}'; there are: {', '.join(experiment_names())}"
        )
    found = [
        (ended, folder)
        for folder in sorted(runs_folder.glob("*"))
        if (ended := _finished(folder, experiment)) is not None
    ]
    if not found:
        raise UsageError(
            f"--exp: {runs_folder} holds no finished run of {experiment}; train one with "
            f"`make train EXP={experiment}`, or name a run with --run"
        )
    return max(found)[1]


def experiment_config(name: str) -> dict[str, Any]:
    """Read what an experiment says of its method and data.

    Args:
        name: Of the experiment.
    """
    return dict(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")))


def _finished(folder: Path, experiment: str) -> str | None:
    """Tell when the training in a folder ended, None where it is another one or has not."""
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        config = yaml.safe_load((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        fits = [stage for stage in record["stages"] if stage["stage"] == "fit"]
        if not fits or fits[-1]["status"] != "finished" or config.get("experiment") != experiment:
            return None
        if not any((folder / name).is_file() for name in _CHECKPOINTS):
            return None
        return str(fits[-1]["ended"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
        return None


def _named_apart(detectors: Sequence[Detector]) -> list[Detector]:
    """Number those of one name: a report tells its models apart by their names."""
    from dataclasses import replace

    names: set[str] = set()
    result = []
    for detector in detectors:
        name, number = detector.name, 1
        while name in names:
            number += 1
            name = f"{detector.name}-{number}"
        names.add(name)
        result.append(detector if name == detector.name else replace(detector, name=name))
    return result
