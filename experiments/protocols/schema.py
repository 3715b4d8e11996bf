"""What a protocol's YAML says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import UsageError
from experiments.strict_yaml import build, read_yaml

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class TestSet:
    """Test videos of one data set.

    Attributes:
        name: Of the set: in ledgers, metrics and tables; it becomes a folder.
        dataset: Of its videos, in any spelling; the name unless given.
        methods: Only fakes of these; empty for all.
        compression: Only videos of this level; empty for all.
        own: The test videos of the run's own data instead.
        unseen: Only for runs that were not trained on `methods`.
    """

    name: str
    dataset: str = ""
    methods: tuple[str, ...] = ()
    compression: str = ""
    own: bool = False
    unseen: bool = False

    # Not a test of pytest's.
    __test__ = False

    @property
    def source(self) -> str:
        """Name of the data set."""
        return self.dataset or self.name


@dataclass(frozen=True)
class Protocol:
    """A list of test sets.

    Attributes:
        description: What it asks.
        sets: Which sets.
        matrix: Whether the Cross-AUC is written: reals of one set against fakes of another.
    """

    description: str
    sets: tuple[TestSet, ...]
    matrix: bool = False


@dataclass(frozen=True)
class _File:
    description: str
    sets: list[Any]
    matrix: bool = False


_FILE_TYPES: dict[str, type | tuple[type, ...]] = {"description": str, "sets": list, "matrix": bool}
_SET_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("name", "dataset", "compression"), str),
    "methods": tuple,
    **dict.fromkeys(("own", "unseen"), bool),
}


def protocol_names() -> list[str]:
    """Return the protocols that exist, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_protocol(name: str) -> Protocol:
    """Read a protocol.

    Args:
        name: One of `protocol_names`, or the path of a YAML of the user's own.

    Raises:
        UsageError: If there is none, or its file does not keep to its form.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if path.parent == FOLDER and not path.is_file():
        raise UsageError(f"unknown protocol '{name}'; there are: {', '.join(protocol_names())}")
    file = build(_File, read_yaml(path), _FILE_TYPES, str(path))
    sets = tuple(_set(values, f"{path}, set {n}") for n, values in enumerate(file.sets, start=1))
    names = [one.name for one in sets]
    repeated = next((one for one in names if names.count(one) > 1), None)
    if repeated or not sets:
        raise UsageError(f"{path}: {f'set {repeated} is there twice' if sets else 'has no set'}")
    return Protocol(file.description, sets, file.matrix)


def named_sets(protocol: Protocol | None, names: tuple[str, ...]) -> Protocol:
    """Choose the sets of a protocol, or make one of names alone.

    Args:
        protocol: The protocol; None for none.
        names: Of sets or data sets; empty for all.

    Raises:
        UsageError: If there is nothing to test on, or the protocol has no such set.
    """
    if protocol is None:
        if not names:
            raise UsageError("say what to test on: --protocol NAME or --datasets NAMES")
        sets = tuple(_set(name, f"--datasets {name}") for name in dict.fromkeys(names))
        return Protocol("data sets by name", sets)
    known = {one.name for one in protocol.sets}
    unknown = next((name for name in names if name not in known), None)
    if unknown:
        raise UsageError(
            f"the protocol has no set {unknown}; there are: {', '.join(sorted(known))}"
        )
    kept = tuple(one for one in protocol.sets if not names or one.name in names)
    return Protocol(protocol.description, kept, protocol.matrix)


def _set(values: Any, at: str) -> TestSet:
    made = build(TestSet, {"name": values} if isinstance(values, str) else values, _SET_TYPES, at)
    if not made.name.isprintable() or not made.name or made.name[0] == "." or "/" in made.name:
        raise UsageError(f"{at}: name {made.name!r} cannot be a folder")
    if made.unseen and not made.methods:
        raise UsageError(f"{at}: unseen needs methods")
    return made
