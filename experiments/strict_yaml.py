"""YAML files of the suite's own, read into dataclasses: a wrong key or type is one line."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from experiments.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

T = TypeVar("T")


def read_yaml(path: Path) -> Any:
    """Read a file.

    Args:
        path: The file.

    Raises:
        UsageError: If it is missing or no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: cannot be read ({reason})") from error


def build(kind: type[T], values: Any, types: Mapping[str, type | tuple[type, ...]], at: str) -> T:
    """Make a dataclass of a mapping.

    Args:
        kind: The dataclass.
        values: What the file has.
        types: Of each field; a list becomes a tuple of texts.
        at: Where it stands, for the error.

    Raises:
        UsageError: If a key is missing or unknown, or a value is of another type.
    """
    if not isinstance(values, dict):
        raise UsageError(f"{at}: not a mapping but a {type(values).__name__}")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    required = {
        name
        for name, field in known.items()
        if field.default is MISSING and field.default_factory is MISSING
    }
    unknown, missing = sorted(set(values) - set(known)), sorted(required - set(values))
    if unknown:
        raise UsageError(f"{at}: unknown key {unknown[0]!r}; there are: {', '.join(known)}")
    if missing:
        raise UsageError(f"{at}: {missing[0]} is missing")
    made = {name: _checked(name, value, types[name], at) for name, value in values.items()}
    return kind(**made)


def _checked(name: str, value: Any, wanted: type | tuple[type, ...], at: str) -> Any:
    if wanted is tuple:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"{at}: {name} must be a list of texts, not {value!r}")
        return tuple(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise UsageError(f"{at}: {name} is {value!r}, which is of the wrong type")
    return value
