"""Videos behind URLs, fetched as the server fetches them."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.predicting.inputs import Input
    from experiments.serving.fetch import FetchLimits


@contextmanager
def fetched(item: Input) -> Iterator[Path]:
    """Fetch a video within the server's limits: by https and from public addresses, if not told so.

    Args:
        item: The video.

    Yields:
        The file, which is removed when the block ends.

    Raises:
        DataError: If the URL may not be asked for, or the file does not come.
        UsageError: If the environment has wrong settings.
    """
    from experiments.serving.fetch import fetch_video

    with tempfile.TemporaryDirectory() as folder:
        path = fetch_video(item.source, Path(folder), _limits())
        # By the name that the report shall tell.
        yield path.rename(path.with_name(item.name))


def _limits() -> FetchLimits:
    """Read the server's settings of fetching from the environment (`FORGERY_FETCH_...`)."""
    from pydantic import ValidationError

    from experiments.serving.settings import Settings

    try:
        return Settings.model_validate({}).fetch_limits
    except ValidationError as error:
        (first, *_) = error.errors()
        name = "_".join(map(str, first["loc"])).upper()
        raise UsageError(f"FORGERY_{name}: {first['msg']}") from error
