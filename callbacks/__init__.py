"""Training behaviour that no method owns."""

from callbacks.alt_freezing import AltFreezing
from callbacks.axis_groups import AxisGroups, split_by_axis
from callbacks.checkpoint_io import AtomicCheckpointIO
from callbacks.last_checkpoint import LastCheckpoint
from callbacks.ledger import LedgerError, read_clip_scores, read_video_scores
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
    "read_clip_scores",
    "read_video_scores",
    "split_by_axis",
]
