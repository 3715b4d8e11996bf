"""Find the map inside a network that its evidence is read off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning_modules import ForgeryModule

#: A map of fewer places along a side tells no part of a face from another. [ours]
_LEAST_SIDE = 4


def clip_logit(model: ForgeryModule, clip: Tensor) -> Tensor:
    """Return the numbers that are explained.

    Args:
        model: The method.
        clip: Normalised, shape (B, 3, T, H, W), float.

    Returns:
        Log-odds of fake, shape (B,). Of methods that score frames it is the sum of the frames':
        each is explained by itself, whatever the rule that pools them.
    """
    output = model(clip)
    logit: Tensor = output.logit if output.frame_logit is None else output.frame_logit.sum(1)
    return logit


def find_layers(model: ForgeryModule) -> list[nn.Module]:
    """Return the layers whose maps explain a method's scores.

    Args:
        model: The method. Those that it names in `evidence_layers` are taken; where it names none,
            the last one that gives a square map of enough places on which the score depends.

    Raises:
        ValueError: If the method names none and its network has no such map.
    """
    named = model.evidence_layers()
    if named:
        return named
    size = model.image_size
    # Random pixels: of a flat picture all gradients could vanish.
    generator = torch.Generator().manual_seed(0)
    clip = torch.randn(1, 3, model.num_frames, size, size, generator=generator)
    clip = clip.to(model.device, next(model.parameters()).dtype)
    for layer in reversed(_layers_with_maps(model, clip)):
        if _matters(model, layer, clip):
            return [layer]
    raise ValueError(
        f"{type(model).__name__} has no map of at least {_LEAST_SIDE} x {_LEAST_SIDE} places that "
        "a score could be explained by; name layers in its `evidence_layers`"
    )


def as_frames(maps: Tensor, num_clips: int, num_frames: int) -> Tensor:
    """Sum maps over channels, and give each frame its own.

    Args:
        maps: Of B clips, shape (B, C, T', h, w) or (B * T', C, h, w), float.
        num_clips: B.
        num_frames: T, a multiple of T'; a map that stands for several frames is shared among them,
            so that sums stay what they are.

    Returns:
        Shape (B, T, h, w), float.
    """
    if maps.ndim == 4:
        maps = torch.unflatten(maps, 0, (num_clips, -1)).transpose(1, 2)
    summed = maps.sum(1)
    times = num_frames // summed.shape[1]
    return summed.repeat_interleave(times, 1) / times


def _layers_with_maps(model: ForgeryModule, clip: Tensor) -> list[nn.Module]:
    """List the layers that run once and give a map, in the order in which they run."""
    calls: list[nn.Module] = []
    maps: set[nn.Module] = set()

    def note(layer: nn.Module, _: object, output: object) -> None:
        calls.append(layer)
        if isinstance(output, Tensor) and _is_map(output, clip):
            maps.add(layer)

    handles = [layer.register_forward_hook(note) for layer in [*model.modules()][1:]]
    try:
        with torch.no_grad():
            model(clip)
    finally:
        for handle in handles:
            handle.remove()
    return [layer for layer in calls if layer in maps and calls.count(layer) == 1]


def _is_map(output: Tensor, clip: Tensor) -> bool:
    if output.ndim not in (4, 5) or output.shape[-1] != output.shape[-2]:
        return False
    frames = output.shape[2] if output.ndim == 5 else output.shape[0]
    return output.shape[-1] >= _LEAST_SIDE and clip.shape[2] % frames == 0


def _matters(model: ForgeryModule, layer: nn.Module, clip: Tensor) -> bool:
    """Say whether the score depends on what stands where in a layer's map."""
    kept: list[Tensor] = []

    def start(_: nn.Module, __: object, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0].clone()  # what follows may work in place

    handle = layer.register_forward_hook(start)
    try:
        logit = clip_logit(model, clip).sum()
    finally:
        handle.remove()
    if not logit.requires_grad:  # no way leads from the map to the score
        return False
    (gradient,) = torch.autograd.grad(logit, kept, allow_unused=True)
    return gradient is not None and bool(gradient.any())
