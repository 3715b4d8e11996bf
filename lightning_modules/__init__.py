"""Methods: one file each. This import list is the registry."""

from lightning_modules.base import ForgeryModule
from lightning_modules.frame_average import FrameAverage
from lightning_modules.frame_method import FrameMethod
from lightning_modules.ftcn_tt import FTCN
from lightning_modules.hff import HFF
from lightning_modules.i3d import I3D
from lightning_modules.sta_vb import StAVB

__all__ = ["FTCN", "HFF", "I3D", "ForgeryModule", "FrameAverage", "FrameMethod", "StAVB"]
