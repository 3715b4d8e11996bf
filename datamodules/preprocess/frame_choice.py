"""Which frames of a video are looked at: all, the first ones, or some spread over all of it.

The frames that are taken follow each other as if there were no others: frame k of a track is then
the k-th frame taken, and its frame rate says how far apart they are.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

ALL_FRAMES = "all"
_CHOICE = re.compile(r"all|(first|spread):([1-9]\d*)")


def check_choice(text: str) -> str:
    """Refuse what names no choice of frames.

    Args:
        text: `all`, `first:N` or `spread:N`.

    Returns:
        The text.

    Raises:
        DataError: If it is none of them.
    """
    if not _CHOICE.fullmatch(text):
        raise DataError(f"frames {text!r} is none of all, first:N, spread:N (as spread:32)")
    return text


def keeps_numbers(choice: str) -> bool:
    """Tell whether the k-th frame taken is the k-th of any video, however long.

    Args:
        choice: `all`, `first:N` or `spread:N`.
    """
    return not check_choice(choice).startswith("spread")


def frame_numbers(choice: str, num_frames: int) -> Sequence[int]:
    """Tell which frames are taken.

    Args:
        choice: `all`; `first:N`; or `spread:N`, from the first to the last frame in equal steps,
            rounded down (DeepfakeBench's preprocessing, its `fixed_num_frames`).
        num_frames: Of the video.

    Returns:
        Ascending frame numbers, each once; all of them where there are fewer than N.
    """
    match = _CHOICE.fullmatch(check_choice(choice))
    if match is None or match[1] is None or int(match[2]) >= num_frames:
        return range(num_frames)
    count = int(match[2])
    if match[1] == "first":
        return range(count)
    spread: list[int] = np.linspace(0, num_frames - 1, count).astype(int).tolist()
    return spread


def taken(
    frames: Iterable[NDArray[np.uint8]], numbers: Sequence[int]
) -> Iterator[NDArray[np.uint8]]:
    """Pass on the frames that are taken.

    Args:
        frames: All frames in order, each (H, W, 3), uint8.
        numbers: Which, ascending.

    Yields:
        The frames taken.
    """
    wanted = set(numbers)
    last = numbers[-1] if numbers else -1
    for number, frame in enumerate(islice(frames, last + 1)):
        if number in wanted:
            yield frame


def mean_step(numbers: Sequence[int]) -> float:
    """Tell how far apart neighbours are on average, in frames: 1 where none is left out."""
    return (numbers[-1] - numbers[0]) / (len(numbers) - 1) if len(numbers) > 1 else 1.0


def not_taken_rows(choice: str, numbers: Sequence[int], num_frames: int) -> list[dict[str, Any]]:
    """Say in the report that frames were left out by choice.

    Args:
        choice: What was asked for.
        numbers: The frames taken.
        num_frames: Of the video.

    Returns:
        One row, or none if all were taken.
    """
    if len(numbers) == num_frames:
        return []
    about = {"first_frame": 0, "last_frame": num_frames - 1, "num_frames": num_frames}
    reason = f"{len(numbers)} frames taken ({choice}); tracks count those"
    return [
        {"what": "dropped frames", **about, "num_frames": num_frames - len(numbers)}
        | {"reason": reason}
    ]
