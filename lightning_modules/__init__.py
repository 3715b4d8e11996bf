"""Methods: one file each. This import list is the registry."""

from lightning_modules.base import ForgeryModule
from lightning_modules.ftcn_tt import FTCN

__all__ = ["FTCN", "ForgeryModule"]
