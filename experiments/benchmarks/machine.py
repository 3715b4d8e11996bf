"""What every benchmark says of the machine, and reads off its command line."""

from __future__ import annotations

import argparse
import platform
import resource
from pathlib import Path


def processor(device: str = "cpu") -> str:
    """Name what computes.

    Args:
        device: `cpu`, or the name of another device of torch.
    """
    if device != "cpu":
        import torch

        return torch.cuda.get_device_name()
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


def at_least_one(text: str) -> int:
    """Read a count.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number from 1 on, not '{text}'")
    return int(text)


def resident_mib() -> float:
    """Tell how much memory this process holds at the moment, in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
