"""Methods: one file each. This list is the registry."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_modules.base import ForgeryModule
    from lightning_modules.frame_average import FrameAverage
    from lightning_modules.frame_method import FrameMethod
    from lightning_modules.ftcn_tt import FTCN
    from lightning_modules.hff import HFF
    from lightning_modules.i3d import I3D
    from lightning_modules.sta_vb import StAVB

__all__ = ["FTCN", "HFF", "I3D", "ForgeryModule", "FrameAverage", "FrameMethod", "StAVB"]

_HOMES = {
    "FTCN": "lightning_modules.ftcn_tt",
    "HFF": "lightning_modules.hff",
    "I3D": "lightning_modules.i3d",
    "ForgeryModule": "lightning_modules.base",
    "FrameAverage": "lightning_modules.frame_average",
    "FrameMethod": "lightning_modules.frame_method",
    "StAVB": "lightning_modules.sta_vb",
}


def __getattr__(name: str) -> Any:
    """Import a method when it is asked for: the figures of a report must not cost torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
