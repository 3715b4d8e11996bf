"""Training behaviour that no method owns."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callbacks.alt_freezing import AltFreezing
    from callbacks.axis_groups import AxisGroups, split_by_axis
    from callbacks.checkpoint_io import AtomicCheckpointIO
    from callbacks.last_checkpoint import LastCheckpoint
    from callbacks.ledger import LedgerError, read_ledger
    from callbacks.preemption import SaveOnSignal
    from callbacks.reproducible import StepSeed
    from callbacks.run_record import RunRecord
    from callbacks.score_writer import ScoreWriter
    from callbacks.throughput import Throughput

__all__ = [
    "AltFreezing",
    "AtomicCheckpointIO",
    "AxisGroups",
    "LastCheckpoint",
    "LedgerError",
    "RunRecord",
    "SaveOnSignal",
    "ScoreWriter",
    "StepSeed",
    "Throughput",
    "read_ledger",
    "split_by_axis",
]

_HOMES = {
    "AltFreezing": "callbacks.alt_freezing",
    "AtomicCheckpointIO": "callbacks.checkpoint_io",
    "AxisGroups": "callbacks.axis_groups",
    "LastCheckpoint": "callbacks.last_checkpoint",
    "LedgerError": "callbacks.ledger",
    "RunRecord": "callbacks.run_record",
    "SaveOnSignal": "callbacks.preemption",
    "ScoreWriter": "callbacks.score_writer",
    "StepSeed": "callbacks.reproducible",
    "Throughput": "callbacks.throughput",
    "read_ledger": "callbacks.ledger",
    "split_by_axis": "callbacks.axis_groups",
}


def __getattr__(name: str) -> Any:
    """Import a callback when it is asked for: reading a ledger must not cost torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
