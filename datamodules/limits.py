"""Check the numbers of an option block, with one line for the user."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from datamodules.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_limits(options: Any, block: str, limits: Mapping[str, tuple[float, float]]) -> None:
    """Refuse values out of their limits, and ranges that begin behind their end.

    Args:
        options: A dataclass of numbers and of ranges (least, highest); blocks in it are left out.
        block: Its name in a YAML.
        limits: What each field may be; 0 to 1 where nothing is said.

    Raises:
        DataError: Names the first wrong field, its value and its limits.
    """
    for field in fields(options):
        value = getattr(options, field.name)
        if not isinstance(value, int | float | tuple):
            continue
        low, high = limits.get(field.name, (0.0, 1.0))
        ends = value if isinstance(value, tuple) else (value, value)
        if not low <= ends[0] <= ends[1] <= high:
            raise DataError(
                f"{block}.{field.name} is {value}; it must lie in {low:g} to {high:g}"
                + (", the lower end first" if isinstance(value, tuple) else "")
            )
