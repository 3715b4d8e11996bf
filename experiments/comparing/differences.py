"""In which settings runs differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callbacks.provenance import PLACES, SEEDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from experiments.comparing.runs import Run

#: Most settings that tell runs of one experiment apart in words [ours].
_MAX_TOLD = 3


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Find the settings that are not the same in all runs.

    Args:
        runs: Those without a configuration say nothing, and are shown as such.

    Returns:
        For each such setting its value in each run, in their order; `-` where a run has none.
    """
    flat = [dict(_flat(run.config, "")) for run in runs]
    known = [values for values in flat if values]
    if len(known) < 2:
        return {}
    names = sorted(set().union(*known))
    rows = {name: [values.get(name, "-") for values in flat] for name in names}
    return {
        name: row
        for name, row in rows.items()
        if not name.startswith(PLACES)
        and len({value for value, values in zip(row, flat, strict=True) if values}) > 1
    }


def told_apart(runs: Sequence[Run]) -> list[str]:
    """Say by which settings runs differ, seeds aside.

    Args:
        runs: Of one experiment.

    Returns:
        Of each run its values, in their order; empty where they do not differ.
    """
    rows = {
        name: row for name, row in differences(runs).items() if name.rpartition(".")[2] not in SEEDS
    }
    told = []
    for place, run in enumerate(runs):
        words = [f"{name} {row[place]}" for name, row in rows.items()] if run.config else []
        more = [f"{len(words) - _MAX_TOLD} more"] if len(words) > _MAX_TOLD else []
        told.append(", ".join(words[:_MAX_TOLD] + more))
    return told


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Name every leaf by its path; members of a list that have a class by its name."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            # What stands between a class and its arguments tells nothing.
            skipped = key == "init_args"
            yield from _flat(inner, name if skipped else f"{name}.{key}".removeprefix("."))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for place, inner in enumerate(value):
            title = inner.get("class_path") if isinstance(inner, dict) else None
            label = str(title).rpartition(".")[2] if title else str(place)
            yield from _flat(inner, f"{name}[{label}]")
    else:
        yield name, "-" if value is None else str(value)
