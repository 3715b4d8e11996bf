"""The golden numbers: rule-made weights and clips, and what official code made of them.

The files in `weights/golden/` were written by running the official networks; each states its rules
in full. Here the rules are carried out and the numbers compared.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

GOLDEN_FOLDER = Path(__file__).parent / "golden"

#: Statistics of a stage, in the order of the files' entries.
STATISTICS = ("mean", "std", "absmax", "first8", "strided8")


def read_golden(name: str) -> dict[str, Any]:
    """Read a file of golden numbers, for example `ftcn_tt.json`."""
    content: dict[str, Any] = json.loads((GOLDEN_FOLDER / name).read_text("utf-8"))
    return content


def fill_state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Make weights by the rule `fill_rule`: from each entry's official key alone.

    Args:
        shapes: Shape of each entry by official key.

    Returns:
        The entries, float64; counters int64.
    """
    return {key: torch.from_numpy(_fill(key, shape)) for key, shape in shapes.items()}


def _fill(key: str, shape: tuple[int, ...]) -> NDArray[Any]:
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    normal = generator.standard_normal
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var") or (key.endswith(".weight") and len(shape) == 1):
        return generator.uniform(0.5, 1.5, shape)
    for suffixes, factor in (
        (("running_mean",), 0.1),
        ((".bias",), 0.05),
        (("pos_embedding", "cls_token"), 0.2),
    ):
        if key.endswith(suffixes):
            return np.asarray(factor * normal(shape))
    return np.asarray(normal(shape) * np.sqrt(1 / np.prod(shape[1:])))


def make_clip(name: str, num_frames: int, height: int, width: int) -> Tensor:
    """Make a clip by the rule `input_rule`.

    Args:
        name: `clip0` or `clip1`.
        num_frames: T.
        height: H.
        width: W.

    Returns:
        Normalised RGB, shape (1, 3, T, H, W), float64.
    """
    t, y, x, c = np.ogrid[:num_frames, :height, :width, :3]
    if name == "clip0":
        video = (2 * y + 3 * x + 11 * t + 40 * c + (x * y) // 32) % 256
    elif name == "clip1":
        video = (128 + (((x - 5 * t) ** 2 + (y - 3 * t) ** 2) // 64) * (c + 1)) % 96
    else:
        raise ValueError(f"There is no rule for {name!r}; there are clip0 and clip1.")
    mean, std = 255 * np.array([0.485, 0.456, 0.406]), 255 * np.array([0.229, 0.224, 0.225])
    return torch.from_numpy((video - mean) / std).permute(3, 0, 1, 2)[None]


def statistics_of(tensor: Tensor) -> dict[str, list[float]]:
    """Describe a stage's output as the golden files do (`stats_note`), in float64."""
    flat = tensor.detach().double().contiguous().flatten()
    strided = [k * flat.numel() // 8 for k in range(8)]
    return {
        "mean": [flat.mean().item()],
        "std": [flat.std(correction=0).item()],
        "absmax": [flat.abs().max().item()],
        "first8": flat[:8].tolist(),
        "strided8": flat[strided].tolist(),
    }


def difference(got: Any, golden: Any) -> float:
    """Give the largest difference of numbers, relative to a golden one where that exceeds 1.

    Args:
        got: A number or numbers, in the shape of `golden`.
        golden: What official code computed.

    Returns:
        max |got - golden| / max(1, |golden|); infinite where something is not finite or of
        another shape.
    """
    mine, theirs = np.asarray(got, np.float64).ravel(), np.asarray(golden, np.float64).ravel()
    if mine.shape != theirs.shape or not np.isfinite(mine).all():
        return float("inf")
    return float(np.max(np.abs(mine - theirs) / np.maximum(1, np.abs(theirs)), initial=0))


def relative_difference(got: float, golden: float) -> float:
    """Give the difference of two numbers relative to the golden one."""
    result = abs(got - golden) / max(abs(golden), 1e-300)
    return result if np.isfinite(result) else float("inf")


def stage_difference(tensor: Tensor, golden: Mapping[str, Any]) -> float:
    """Compare a stage's output with its golden entry.

    Args:
        tensor: The output, brought into the official shape.
        golden: The file's entry: shape and statistics.

    Returns:
        The largest difference of all statistics; infinite if the shape is another.
    """
    if list(tensor.shape) != list(golden["shape"]):
        return float("inf")
    mine = statistics_of(tensor)
    return max(difference(mine[name], golden[name]) for name in STATISTICS)
