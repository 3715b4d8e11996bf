"""Which videos are scored, and where the results of each go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from datamodules.datasets.records import VIDEO_SUFFIXES
from experiments.errors import UsageError
from experiments.predicting.outputs import ANNOTATED, REPORT

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What begins a URL; file names never hold it.
_SCHEME = "://"


class Input(NamedTuple):
    """A video to score.

    Attributes:
        source: Path of the file, or a URL.
        name: Of its output folder among those of other videos.
    """

    source: str
    name: str

    @property
    def is_url(self) -> bool:
        """Whether it has to be fetched."""
        return is_url(self.source)


def is_url(text: str) -> bool:
    """Tell URLs from paths."""
    return _SCHEME in text


def list_inputs(sources: Sequence[str], allow_url: bool) -> list[Input]:
    """List the videos behind what was typed; folders are searched to the bottom.

    Args:
        sources: Files, folders and URLs.
        allow_url: Whether URLs may be fetched.

    Returns:
        The videos, each with a name of its own that does not depend on the others in a folder.

    Raises:
        UsageError: If something is not there, holds no video, or may not be fetched.
    """
    found: list[Input] = []
    for source in sources:
        if is_url(source):
            if not allow_url:
                raise UsageError(f"--video: {source} is a URL; type --allow-url to fetch it")
            found.append(Input(source, _url_name(source)))
        elif Path(source).is_dir():
            found += _of_folder(Path(source))
        elif Path(source).is_file():
            found.append(Input(source, readable(Path(source).name)))
        else:
            raise UsageError(f"--video: {source} does not exist")
    return _apart(found)


def _of_folder(folder: Path) -> list[Input]:
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in VIDEO_SUFFIXES
        and path.is_file()
        and not _is_result(path)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise UsageError(
            f"--video: {folder} holds no video ({' '.join(VIDEO_SUFFIXES)}); name files instead"
        )
    return [Input(str(path), readable(path.relative_to(folder).as_posix())) for path in files]


def readable(name: str) -> str:
    """Write a file name so that it can be shown: bytes that are no UTF-8 become escapes.

    Args:
        name: As the file system gave it.
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_result(path: Path) -> bool:
    """Tell videos that a prediction wrote from those that somebody else made."""
    return path.name == ANNOTATED and (path.parent / REPORT).is_file()


def _url_name(url: str) -> str:
    path = url.split(_SCHEME, 1)[1].partition("?")[0].partition("#")[0]
    kept = "".join(c if c.isalnum() or c in "._-" else "_" for c in path.rstrip("/").split("/")[-1])
    return kept.strip(".") or "video"


def _apart(inputs: Sequence[Input]) -> list[Input]:
    """Number those of one name; a file that was named twice is taken once."""
    names: set[str] = set()
    result: dict[str, Input] = {}
    for item in inputs:
        key = item.source if item.is_url else str(Path(item.source).resolve())
        if key in result:
            continue
        name, number = item.name, 1
        while name in names:
            number += 1
            name = f"{item.name}-{number}"
        names.add(name)
        result[key] = Input(item.source, name)
    return list(result.values())
