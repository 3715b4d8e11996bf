"""Processes that load: how many, how they start, and what they leave alone."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch

#: Workers of one trainer process where nothing is said; more seldom feed a GPU faster. [ours]
MAX_WORKERS = 8
#: Without an answer for so long a worker is taken for dead: an error beats a silent hang. [ours]
TIMEOUT_S = 600
#: Batches that a worker keeps ready (two, PyTorch's default), and the one it works on.
_BATCHES_PER_WORKER = 3
#: Where Linux keeps what workers hand over.
_SHARED_MEMORY = Path("/dev/shm")


def spare_workers(batch_bytes: int, processes: int = 1) -> int:
    """Share out the machine's cores and shared memory.

    Args:
        batch_bytes: Size of a batch.
        processes: Trainer processes on this machine.

    Returns:
        Workers for each of them; 0 to load in the trainer itself.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    # On two cores a worker would only take from the trainer what it gives.
    spare = cores // processes if cores > 2 else 0
    if _SHARED_MEMORY.is_dir():
        # Containers often have 64 MB of it; workers that fill it die of a bus error.
        free = shutil.disk_usage(_SHARED_MEMORY).free // processes
        spare = min(spare, free // (_BATCHES_PER_WORKER * batch_bytes))
    return min(spare, MAX_WORKERS)


def worker_options(num_workers: int, persistent: bool) -> dict[str, Any]:
    """Give the arguments of a `DataLoader` that concern its workers.

    Workers are forked on Linux: what ours use (zip files that every process opens for itself,
    OpenCV without threads, NumPy) bears it, and a fresh interpreter takes seconds for each.

    Args:
        num_workers: How many; 0 loads in the trainer itself.
        persistent: Whether they outlive an epoch.
    """
    if num_workers == 0:
        return {"num_workers": 0}
    return {
        "num_workers": num_workers,
        "persistent_workers": persistent,
        "worker_init_fn": _init_worker,
        "timeout": TIMEOUT_S,
        "multiprocessing_context": "fork" if sys.platform == "linux" else None,
    }


def _init_worker(worker_id: int) -> None:
    """Keep a worker to one core, and leave signals to the trainer's process."""
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # A forked worker inherits handlers that save checkpoints.
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
