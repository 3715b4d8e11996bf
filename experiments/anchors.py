"""Published numbers: shown beside ours under their own protocols, never mixed with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.dataset_names import plain
from experiments.errors import UsageError
from experiments.strict_yaml import build, read_yaml

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

ANCHORS = Path(__file__).with_name("anchors.yaml")
LEVELS = ("frame", "clip", "video")
_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("paper", "protocol", "level", "metric", "read"), str),
    "datasets": tuple,
    "values": dict,
}


@dataclass(frozen=True)
class _Table:
    paper: str
    protocol: str
    level: str
    metric: str
    read: str
    datasets: tuple[str, ...]
    values: dict[str, list[float | None]]


class Anchor(NamedTuple):
    """One published number.

    Attributes:
        paper: Where it is printed.
        method: Of which method.
        protocol: How it was come by.
        dataset: Tested on.
        level: What is ranked: frames, clips or videos.
        metric: The figure.
        value: In 0..1.
        read: Where it was read.
    """

    paper: str
    method: str
    protocol: str
    dataset: str
    level: str
    metric: str
    value: float
    read: str


def read_anchors(path: Path = ANCHORS) -> list[Anchor]:
    """Read the published numbers.

    Args:
        path: The file.

    Raises:
        UsageError: If it does not keep to its form; names the table.
    """
    content = read_yaml(path)
    if not isinstance(content, list):
        raise UsageError(f"{path}: not a list of tables")
    return [
        anchor
        for number, values in enumerate(content, start=1)
        for anchor in _anchors(values, f"{path}, table {number}")
    ]


def shown_beside(anchors: Sequence[Anchor], datasets: Collection[str]) -> list[Anchor]:
    """Choose the numbers on data sets, whatever spelling those are known by.

    Args:
        anchors: All of them.
        datasets: Names of sets or data sets.

    Returns:
        Those on one of them, by data set, the highest first.
    """
    wanted = {plain(name) for name in datasets}
    # A joint test of FaceForensics++ names its compression.
    wanted |= {f"ffpp{level}" for level in ("c23", "c40") if "ffpp" in wanted}
    found = [anchor for anchor in anchors if plain(anchor.dataset) in wanted]
    return sorted(found, key=lambda a: (a.dataset, a.level, a.paper, -a.value))


def _anchors(values: Any, at: str) -> list[Anchor]:
    table = build(_Table, values, _TYPES, at)
    if table.level not in LEVELS:
        raise UsageError(f"{at}: level {table.level!r} is none of {', '.join(LEVELS)}")
    found = []
    for method, row in table.values.items():
        if not isinstance(row, list) or len(row) != len(table.datasets):
            raise UsageError(f"{at}: {method} needs {len(table.datasets)} numbers, one a data set")
        for dataset, value in zip(table.datasets, row, strict=True):
            if value is None:
                continue
            if not isinstance(value, float) or not 0 <= value <= 1:
                raise UsageError(f"{at}: {method} on {dataset} is {value!r}, not in 0..1")
            about = (table.paper, str(method), table.protocol, dataset, table.level, table.metric)
            found.append(Anchor(*about, value, table.read))
    return found
