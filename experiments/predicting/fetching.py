"""Videos behind URLs, fetched as the server fetches them."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.predicting.inputs import Input


@contextmanager
def fetched(item: Input) -> Iterator[Path]:
    """Fetch a video: by https, from public addresses, within the server's limits.

    Args:
        item: The video.

    Yields:
        The file, which is removed when the block ends.

    Raises:
        DataError: If the URL may not be asked for, or the file does not come.
    """
    from experiments.serving.fetch import fetch_video

    with tempfile.TemporaryDirectory() as folder:
        path = fetch_video(item.source, Path(folder))
        # By the name that the report shall tell.
        yield path.rename(path.with_name(item.name))
