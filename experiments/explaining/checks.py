"""Whether maps can be trusted: they must follow the weights, the score, and what was forged."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from experiments.explaining.layers import clip_logit
from experiments.explaining.maps import Explainer, without_detail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightning_modules import ForgeryModule

#: Shares of a clip that are taken away, or brought in, step by step. [ours]
_STEPS = np.linspace(0, 1, 11)
#: Random orders that a map's is compared with. [ours]
_ORDERS = 3


class Randomised(NamedTuple):
    """How alike maps are before and after weights were shuffled.

    Attributes:
        correlation: Spearman's rank correlation, mean over clips; 1 for maps that ignore weights.
        similarity: Structural similarity (SSIM) of maps scaled to 0..1, mean over clips.
    """

    correlation: float
    similarity: float


class Curves(NamedTuple):
    """What happens to scores when places are taken away, or brought in, in an order.

    Attributes:
        deletion: Mean log-odds while the most telling places lose their detail, less those at the
            start; the lower, the better the map.
        insertion: Mean log-odds while a clip without detail gets its most telling places back,
            less those at the start; the higher, the better.
        random_deletion: The same in random order.
        random_insertion: The same in random order.
        better: Share of clips of which the map's order deletes faster than all random ones.
    """

    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float
    better: float


class Placed(NamedTuple):
    """How well maps find a forged region.

    Attributes:
        auroc: Probability that a forged pixel is marked more than another one; chance is 0.5.
        pointing: Share of clips whose strongest pixel is forged.
        area: Share of forged pixels, which is what pointing by chance would reach.
    """

    auroc: float
    pointing: float
    area: float


def shuffled(model: ForgeryModule, share: float = 1.0, seed: int = 0) -> ForgeryModule:
    """Copy a method and shuffle the values inside its weights, so that nothing learned is left.

    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, draw weights anew; shuffled
    ones keep their sizes, so that no network dies or explodes. [ours]

    Args:
        model: The method.
        share: Of the weights, counted from the network's end: the cascade of that paper.
        seed: Of the shuffling.
    """
    other = deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    weights = [weight for weight in other.parameters() if weight.numel() > 1]
    with torch.no_grad():
        for weight in weights[len(weights) - round(share * len(weights)) :]:
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            weight.copy_(weight.flatten()[order].view_as(weight))
    return other


def compare_randomised(
    model: ForgeryModule, clips: NDArray[np.uint8], share: float = 1.0
) -> Randomised:
    """Compare maps with those after weights were shuffled.

    Args:
        model: The method, trained.
        clips: RGB, shape (B, T, H, W, 3), uint8.
        share: Of the weights, counted from the network's end.
    """
    # Signed: where nothing speaks for fake any more, all places of a map would be alike.
    one = Explainer(model).explain(clips, signed=True)
    other = Explainer(shuffled(model, share)).explain(clips, signed=True)
    return Randomised(rank_correlation(one, other), similarity(one, other))


def rank_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return Spearman's correlation of maps (B, T, h, w), mean over clips."""
    from torchmetrics.functional import spearman_corrcoef

    pairs = zip(torch.as_tensor(one).flatten(1), torch.as_tensor(other).flatten(1), strict=True)
    return float(np.mean([float(spearman_corrcoef(a, b)) for a, b in pairs]))


def similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return SSIM of maps (B, T, h, w), each clip scaled to 0..1, mean over clips."""
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    scaled = [_scaled(maps).flatten(0, 1)[:, None] for maps in (one, other)]
    # A small window, for maps may have no more than 4 places along a side.
    found = ssim(scaled[0], scaled[1], kernel_size=3, sigma=0.75, data_range=1.0)
    assert isinstance(found, torch.Tensor)
    return float(found)


def follow_score(
    model: ForgeryModule, clips: NDArray[np.uint8], maps: NDArray[np.float32], seed: int = 0
) -> Curves:
    """Take places away in the order of maps, and in random orders (Petsiuk et al., BMVC 2018).

    What is taken away becomes what it is without detail, see `without_detail`.

    Args:
        model: The method.
        clips: RGB, shape (B, T, H, W, 3), uint8.
        maps: Of them, shape (B, T, h, w), float32.
        seed: Of the random orders.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for clip, plain, own in zip(clips, without_detail(clips), maps, strict=True):
        orders = [own, *(rng.random(own.shape, np.float32) for _ in range(_ORDERS))]
        rows.append([_areas(model, clip, plain, order) for order in orders])
    areas = np.array(rows)  # clips, orders, deletion and insertion
    own, random = areas[:, 0], areas[:, 1:]
    return Curves(
        deletion=float(own[:, 0].mean()),
        insertion=float(own[:, 1].mean()),
        random_deletion=float(random[..., 0].mean()),
        random_insertion=float(random[..., 1].mean()),
        better=float((own[:, 0] < random[:, :, 0].min(1)).mean()),
    )


def find_place(maps: NDArray[np.float32], masks: NDArray[np.floating[Any]]) -> Placed:
    """Compare maps with what was forged.

    Args:
        maps: Shape (B, T, h, w), float32.
        masks: Share of forgery in each pixel, 0..1, shape (B, T, H, W); some, but not all.
    """
    from torchmetrics.functional.classification import binary_auroc

    forged = torch.as_tensor(masks > 0.5)
    large = F.interpolate(torch.as_tensor(maps), forged.shape[2:], mode="bilinear")
    areas, hits = [], []
    for one, mask in zip(large, forged, strict=True):
        # Brought to 0..1: what is beyond would be taken for log-odds and lose its order.
        value = (one / one.max().clamp(min=1e-12)).flatten()
        areas.append(float(binary_auroc(value, mask.flatten().int())))
        hits.append(bool(mask.flatten()[value.argmax()]))
    return Placed(float(np.mean(areas)), float(np.mean(hits)), float(forged.float().mean()))


def _areas(
    model: ForgeryModule,
    clip: NDArray[np.uint8],
    plain: NDArray[np.uint8],
    order: NDArray[np.float32],
) -> tuple[float, float]:
    """Return the areas under deletion and insertion in an order given by size, (T, h, w)."""
    size = clip.shape[1:3]
    large = F.interpolate(torch.as_tensor(order)[None], size, mode="bilinear")[0].numpy()
    place = np.empty(large.size)
    place[np.argsort(-large, axis=None, kind="stable")] = np.arange(large.size) / large.size
    taken = place.reshape(large.shape)[..., None]
    deleted = [_logit(model, np.where(taken < share, plain, clip)) for share in _STEPS]
    inserted = [_logit(model, np.where(taken < share, clip, plain)) for share in _STEPS]
    return (
        float(np.mean(deleted)) - deleted[0],
        float(np.mean(inserted)) - inserted[0],
    )


@torch.inference_mode()
def _logit(model: ForgeryModule, clip: NDArray[np.uint8]) -> float:
    given = torch.as_tensor(clip[None]).to(model.device)
    return float(clip_logit(model, model.normalise(given))) / len(clip)


def _scaled(maps: NDArray[np.float32]) -> torch.Tensor:
    given = torch.as_tensor(maps)
    low, high = given.amin((1, 2, 3), keepdim=True), given.amax((1, 2, 3), keepdim=True)
    return (given - low) / (high - low).clamp(min=1e-12)
