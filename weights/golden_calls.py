"""Golden numbers in call order: rule-made weights, images and clips, and every module's output.

The second form of golden files, besides that of `golden_numbers`: statistics of every module's
output in the order of the calls. Each file states its rules in full.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from weights.golden_numbers import difference

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

#: Statistics of an output, in the order of the files' entries.
STATISTICS = ("mean", "std", "min", "max", "l2", "first8", "last_first4")


def fill_state(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Make weights by the rule `filling_rule`: from each entry's official key alone.

    Args:
        shapes: Shape of each entry by official key; fixed filters (`*.kernel`) are left out.

    Returns:
        The entries, float32; counters int64.
    """
    filled = {key: fill(key, tuple(s)) for key, s in shapes.items() if not key.endswith(".kernel")}
    return {key: torch.from_numpy(value) for key, value in filled.items()}


def fill(key: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Make one entry by the rule `filling_rule`."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    uniform = ("running_var", "gamma1", "gamma2")
    if key.endswith(uniform) or (key.endswith("weight") and len(shape) == 1):
        return np.asarray(0.5 + generator.random(shape), np.float32)
    return np.asarray(generator.standard_normal(shape) * _scale(key, shape), np.float32)


def _scale(key: str, shape: tuple[int, ...]) -> float:
    if key.endswith("running_mean"):
        return 0.1
    if key.endswith("embedding"):
        return 0.2
    if len(shape) < 2:
        return 0.05
    over_positions = key.endswith(("linear1.weight", "linear2.weight"))
    return float(np.sqrt(1 / np.prod(shape[1:]))) * (0.1 if over_positions else 1)


def make_image(number: int, size: int) -> NDArray[np.float32]:
    """Make an image by the rule `input_rule`.

    Args:
        number: 0 or 1.
        size: Height and width in pixels, a multiple of 8.

    Returns:
        Shape (3, size, size), in (-1, 1).
    """
    return np.asarray(make_clip(number, size, 1)[0])


def make_clip(number: int, size: int, num_frames: int) -> NDArray[np.float32]:
    """Make a clip by the rule `input_rule`; its first frame is the image of the same number.

    Args:
        number: 0 or 1.
        size: Height and width in pixels, a multiple of 8.
        num_frames: T.

    Returns:
        Shape (T, 3, size, size), in (-1, 1).
    """
    generator = np.random.Generator(np.random.PCG64(1000 + number))
    base = np.kron(generator.standard_normal((3, 8, 8)), np.ones((1, size // 8, size // 8)))
    frames = [
        np.tanh(np.roll(base, 3 * t, 2) + 0.3 * generator.standard_normal((3, size, size)))
        for t in range(num_frames)
    ]
    return np.asarray(np.stack(frames), np.float32)


def output_difference(tensor: Tensor, golden: Mapping[str, Any]) -> float:
    """Compare an output with its golden entry.

    Args:
        tensor: The output.
        golden: The file's entry: shape and statistics.

    Returns:
        The largest difference of all statistics (see `golden_numbers.difference`); infinite if
        the shape is another.
    """
    if list(tensor.shape) != list(golden["shape"]):
        return float("inf")
    values = tensor.detach().double()
    flat = values.flatten()
    mine = {
        "mean": flat.mean().item(),
        "std": flat.std(correction=0).item(),
        "min": flat.min().item(),
        "max": flat.max().item(),
        "l2": flat.norm().item(),
        "first8": flat[:8].tolist(),
        # The files have none where there is one slice only.
        "last_first4": values[-1].flatten()[:4].tolist() if len(values) > 1 else [],
    }
    return max(difference(mine[name], golden[name]) for name in STATISTICS)


class Place(NamedTuple):
    """Where a golden row is seen.

    Attributes:
        module: Our module's name.
        call: Which of its calls, from 1.
        part: Which of several outputs, from 0; None if there is one.
    """

    module: str
    call: int
    part: int | None


def find_place(row: str, modules: Sequence[tuple[str, str]]) -> Place:
    """Read a golden row's name, such as `relu#call2` or `cross[out1]`.

    Args:
        row: The name.
        modules: Patterns of official modules and ours; the first that matches wholly decides.

    Raises:
        KeyError: If no pattern knows the module.
    """
    match = re.fullmatch(r"(.+?)(?:#call(\d+))?(?:\[out(\d+)\])?", row)
    assert match is not None
    for pattern, ours in modules:
        found = re.fullmatch(pattern, match[1])
        if found:
            part = None if match[3] is None else int(match[3])
            return Place(found.expand(ours), int(match[2] or 1), part)
    raise KeyError(f"No pattern says where the golden row {row!r} is.")


class CallLog(NamedTuple):
    """What was seen while a network ran.

    Attributes:
        differences: Largest difference by row; infinite if the row was not seen.
        order: Rows in the order they were seen.
    """

    differences: dict[str, float]
    order: list[str]


@contextmanager
def watch_calls(
    network: nn.Module,
    golden: Sequence[Mapping[str, Any]],
    modules: Sequence[tuple[str, str]],
    view: Callable[[Mapping[str, Any], Tensor], Tensor] | None = None,
) -> Iterator[CallLog]:
    """Compare outputs of modules while the network runs.

    Args:
        network: Ours.
        golden: The file's rows.
        modules: Patterns of official modules and ours.
        view: Takes a row and what our module gave, and brings that into the official shape.

    Yields:
        The log, which fills.
    """
    log = CallLog({row["at"]: float("inf") for row in golden}, [])
    places = {find_place(row["at"], modules): row for row in golden}
    assert len(places) == len(golden)
    calls: dict[str, int] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def compare(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            parts = enumerate(output) if isinstance(output, tuple) else [(None, output)]
            for part, tensor in parts:
                row = places.get(Place(name, calls[name], part))
                if row is not None:
                    seen = tensor if view is None else view(row, tensor)
                    log.differences[row["at"]] = output_difference(seen, row)
                    log.order.append(row["at"])

        return compare

    names = dict.fromkeys(place.module for place in places)
    handles = [network.get_submodule(n).register_forward_hook(hook(n)) for n in names]
    try:
        yield log
    finally:
        for handle in handles:
            handle.remove()
