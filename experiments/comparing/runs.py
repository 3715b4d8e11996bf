"""What runs left in their folders: ledgers, configuration, record, learning curves."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from callbacks.provenance import CONFIG_NAME, recipe_of
from experiments.errors import UsageError
from experiments.evaluation.ledgers import read_evaluations
from experiments.run_folder import EVALUATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from experiments.evaluation.ledgers import Evaluation

#: Where a run keeps ledgers of tests: of its fit, of protocols, of single evaluations.
_PLACES = (
    "scores/test*.parquet",
    f"{EVALUATIONS}/*/scores/test*.parquet",
    "test/*/scores/test*.parquet",
)
#: Where it keeps the records of tests and validations.
_RECORDS = ("", f"{EVALUATIONS}/*/", "test/*/", "validate/*/")


@dataclass(frozen=True)
class Run:
    """One of the compared runs.

    Attributes:
        name: Tells it from the others.
        folder: Where it lies.
        config: Its resolved configuration; empty if there is none.
        record: What `RunRecord` wrote; empty if there is none.
        curves: What it logged: `epoch`, `step` and metrics, one row a report.
        evaluations: Its tests, by set.
        ledgers: The file of each.
        tests: What records say of tests and validations, those without a ledger, too.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    record: dict[str, Any]
    curves: pl.DataFrame
    evaluations: dict[str, Evaluation]
    ledgers: dict[str, Path]
    tests: tuple[dict[str, Any], ...]

    @property
    def experiment(self) -> str:
        """The group of runs that differ in their seed; that of a run without one is its name."""
        known = (str(one.facts["experiment"]) for one in self.evaluations.values())
        return str(self.config.get("experiment") or next((k for k in known if k), self.name))

    @property
    def recipe(self) -> str:
        """Digest of its settings without seeds and places; empty if nobody knows them."""
        known = (str(one.facts["recipe"]) for one in self.evaluations.values())
        return recipe_of(self.config) or next((k for k in known if k), "")

    @property
    def fit(self) -> dict[str, Any]:
        """What the record says of the last training; empty if it says nothing."""
        stages = self.record.get("stages", [])
        return next((s for s in reversed(stages) if s.get("stage") == "fit"), {})

    @property
    def seed(self) -> int | None:
        """Of the run, as its ledgers have it."""
        return next((one.facts["seed"] for one in self.evaluations.values()), None)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders.

    Args:
        folders: At least one; what is given twice counts once.

    Raises:
        UsageError: If one is no folder, or has no ledger of a test.
        LedgerError: If a ledger is damaged.
    """
    unique = list(dict.fromkeys(folder.resolve() for folder in folders))
    if not unique:
        raise UsageError('say which runs: RUNS="runs/a runs/b"')
    return [_run(folder, name) for folder, name in zip(unique, _names(unique), strict=True)]


def _names(folders: Sequence[Path]) -> list[str]:
    """Name folders by as many of their last parts as tell them apart."""
    names = [folder.name for folder in folders]
    for length in range(2, 1 + max(len(folder.parts) for folder in folders)):
        counts = Counter(names)
        names = [
            name if counts[name] == 1 else "/".join(folder.parts[-length:])
            for folder, name in zip(folders, names, strict=True)
        ]
    return names


def _run(folder: Path, name: str) -> Run:
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such run folder")
    found = dict(_tests(folder))
    if not found:
        raise UsageError(
            f"{folder} has no ledger of a test (scores/test.parquet); make evaluate RUN={folder}"
        )
    return Run(
        name=name,
        folder=folder,
        config=_mapping(folder / CONFIG_NAME),
        record=_mapping(folder / "record.json"),
        curves=_curves(folder),
        evaluations={key: evaluation for key, (evaluation, _) in found.items()},
        ledgers={key: path for key, (_, path) in found.items()},
        tests=tuple(_recorded_tests(folder)),
    )


def _tests(folder: Path) -> Iterator[tuple[str, tuple[Evaluation, Path]]]:
    """Read every test once; of another content under a known name the folder tells it apart."""
    taken: dict[str, set[tuple[str, str]]] = {}
    for path in (p for place in _PLACES for p in sorted(folder.glob(place))):
        for evaluation in read_evaluations([path]):
            name = evaluation.set_name
            about = (str(evaluation.facts["checkpoint"]), str(evaluation.facts["manifest"]))
            if about in taken.get(name, ()):
                continue
            known = taken.setdefault(name, set())
            shown = f"{name} ({path.parents[1].name})" if known else name
            known.add(about)
            yield shown, (evaluation, path)


def _recorded_tests(folder: Path) -> Iterator[dict[str, Any]]:
    for path in (p for place in _RECORDS for p in sorted(folder.glob(f"{place}record.json"))):
        for stage in _mapping(path).get("stages", []):
            if stage.get("stage") in ("test", "validate") and stage.get("status") == "finished":
                yield stage


def _mapping(path: Path) -> dict[str, Any]:
    """Read YAML or JSON of a run; a run without it can be compared all the same."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    try:
        # The C loader reads a resolved configuration twenty times faster.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        found = json.loads(text) if path.suffix == ".json" else yaml.load(text, loader)
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path} is damaged ({str(error).splitlines()[0]})") from error
    return found if isinstance(found, dict) else {}


def _csv(path: Path) -> pl.DataFrame:
    try:
        # A run that is still training may be in the middle of its last line.
        return pl.read_csv(path, infer_schema_length=None, truncate_ragged_lines=True, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(f"{path} is damaged ({str(error).splitlines()[0]})") from error


def _curves(folder: Path) -> pl.DataFrame:
    """Read what was logged, of a resumed run one part after the other."""
    files = sorted(folder.glob("metrics*/metrics.csv"), key=lambda p: (len(p.parent.name), p))
    parts = [_csv(file) for file in files if file.stat().st_size]
    numbers = [part.cast(pl.Float64, strict=False) for part in parts]
    return pl.concat(numbers, how="diagonal") if numbers else pl.DataFrame()
