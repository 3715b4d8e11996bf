"""Landlock of the Linux kernel: take most of the file system away from a process.

The kernel's interface is three system calls (Linux 5.13, https://docs.kernel.org/userspace-api/
landlock.html); the Python package that wraps them has no release yet.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

# Numbers of the three calls, the same on all architectures; and bits of rights: linux/landlock.h.
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_READ = _READ_FILE | _READ_DIR
_FILE_RIGHTS = (1 << 0) | (1 << 1) | _READ_FILE | (1 << 14)
#: Rights that each version of the interface knows: of the first, moving (2), truncating (3).
_HANDLED = {1: (1 << 13) - 1, 2: (1 << 14) - 1}
_HANDLED_LATER = (1 << 15) - 1
_NO_NEW_PRIVILEGES = 38  # prctl(2)


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled", ctypes.c_uint64),)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def restrict(readable: Sequence[Path], writable: Sequence[Path]) -> bool:
    """Leave this process, and threads it starts, these paths and no others.

    Args:
        readable: Files and folders that may be read.
        writable: Folders in which files may be read, written, made and removed; no links, no
            devices.

    Returns:
        Whether the kernel does so; False where it has no Landlock, and nothing has changed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE, None, 0, _VERSION_FLAG)
    if version < 1:
        return False
    handled = _HANDLED.get(version, _HANDLED_LATER)
    ruleset = _Ruleset(handled)
    number = libc.syscall(_CREATE, ctypes.byref(ruleset), ctypes.sizeof(ruleset), 0)
    if number < 0:
        return False
    try:
        # remove a file or folder, make a file or folder, truncate
        change = _READ | (1 << 1) | (1 << 4) | (1 << 5) | (1 << 7) | (1 << 8) | (1 << 14)
        done = all(_allow(libc, number, path, _READ & handled) for path in readable) and all(
            _allow(libc, number, path, change & handled) for path in writable
        )
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        return bool(done and libc.syscall(_RESTRICT, number, 0) == 0)
    finally:
        os.close(number)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> bool:
    number = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not path.is_dir():
            rights &= _FILE_RIGHTS
        rule = _PathBeneath(rights, number)
        return bool(libc.syscall(_ADD, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0) == 0)
    finally:
        os.close(number)
