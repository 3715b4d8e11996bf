"""Whole files or none: what is written here is complete under its name, or absent."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def atomic_open(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name only when the block ends well.

    The bytes go to a hidden neighbour, which is moved over `path` at the end. If the block
    raises, the neighbour is removed and an older file under the name stays as it was.

    Args:
        path: The file to write; its folder is made if it is missing.

    Yields:
        A binary file, writable and seekable.

    Raises:
        OSError: If the folder or the disk refuses the bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keeps workers that write the same name apart; their process ids may be the same where they
    # run on several machines, or in several containers.
    partial = path.with_name(f".{path.name}.{uuid4().hex[:16]}.partial")
    try:
        with partial.open("wb+") as file:
            yield file
            file.flush()
            # Without it a power cut may leave a complete name on incomplete bytes.
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file in UTF-8, wholly or not at all.

    Args:
        path: The file to write; its folder is made if it is missing.
        text: The whole content.

    Raises:
        OSError: If the folder or the disk refuses the bytes.
    """
    with atomic_open(path) as file:
        file.write(text.encode())
