"""Decode only some rows of a JPEG picture that was written for it.

A clip shows the middle of its generous crops; with a restart marker after every row of blocks,
the rows above and below need not be decoded. The pixels are the same as those of a whole decode.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Side of a block in pixels; a picture without subsampled colours has rows of such blocks.
BLOCK = 8
# Markers (ITU-T T.81, table B.1).
_SOF0, _DRI, _SOS, _RST0 = 0xC0, 0xDD, 0xDA, 0xD0
_END = b"\xff\xd9"


class _Header(NamedTuple):
    """What a picture says before its pixels: where they begin, and where its height stands."""

    scan_start: int
    height_at: int
    height: int


def restart_interval(width: int) -> int:
    """Tell how many blocks a row has.

    Args:
        width: Of the picture in pixels.
    """
    return -(-width // BLOCK)


def some_rows(content: bytes, top: int, bottom: int) -> tuple[bytes, int]:
    """Cut a JPEG file down to the rows of blocks that hold some rows of pixels.

    Args:
        content: The file.
        top: First row of pixels that is needed.
        bottom: The row after the last one.

    Returns:
        A JPEG file of fewer rows, and the row of the whole picture that its first one is. The
        whole file and 0 if it cannot be cut (subsampled colours, no restart markers, damage).
    """
    header = _read_header(content)
    if header is None:
        return content, 0
    rows = -(-header.height // BLOCK)
    first = min(max(top // BLOCK, 0), rows - 1)
    last = max(first, min(-(-bottom // BLOCK), rows) - 1)
    ends = _row_ends(content, header.scan_start)
    if (first, last) == (0, rows - 1) or len(ends) != rows - 1:
        return content, 0
    start = ends[first - 1] + 2 if first else header.scan_start
    stop = ends[last] if last < rows - 1 else len(content) - len(_END)
    scan = np.frombuffer(content, np.uint8)[start:stop].copy()
    # A decoder wants the markers numbered from 0 on, in turns of eight.
    within = ends[first:last] - start
    scan[within + 1] = _RST0 + np.arange(len(within)) % 8
    height = min((last + 1) * BLOCK, header.height) - first * BLOCK
    head = bytearray(content[: header.scan_start])
    struct.pack_into(">H", head, header.height_at, height)
    return b"".join((head, scan.tobytes(), _END)), first * BLOCK


def _read_header(content: bytes) -> _Header | None:
    """Read the segments before the pixels; None if the rows do not stand alone."""
    at, size, interval = 2, None, 0
    while at + 4 <= len(content) and content[at] == 0xFF:
        kind, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if kind == _SOF0:
            size = _frame_size(content, at)
        elif kind == _DRI:
            interval = int.from_bytes(content[at + 4 : at + 6], "big")
        elif kind == _SOS:
            fits = size is not None and interval == restart_interval(size[1])
            whole = content.endswith(_END)
            return _Header(at + 2 + length, *size[2:]) if size and fits and whole else None
        at += 2 + length
    return None


def _frame_size(content: bytes, at: int) -> tuple[int, int, int, int] | None:
    """Read height, width, and where the height stands; None if colours are subsampled."""
    height, width, parts = struct.unpack_from(">HHB", content, at + 5)
    samplings = {content[at + 11 + 3 * k] for k in range(parts)}
    return (height, width, at + 5, height) if samplings == {0x11} else None


def _row_ends(content: bytes, start: int) -> NDArray[np.int64]:
    """Find the restart markers: positions of their first bytes, ascending."""
    data = np.frombuffer(content, np.uint8)
    at = np.flatnonzero(data[start:-1] == 0xFF) + start
    following = data[at + 1]
    return at[(following >= _RST0) & (following < _RST0 + 8)]
