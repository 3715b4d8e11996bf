"""Clips that are fake where a patch of noise is, and a small method that has learned so."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_modules import ForgeryModule
from lightning_modules.backbones.ftcn import FTCNNetwork
from tests.support.cases import CASES

SIZE, FRAMES = 64, 4
PATCH = 16


def patched_clips(
    number: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Draw soft pictures, every other one with a patch of flickering noise somewhere.

    Args:
        number: Of clips.
        seed: Of everything random.

    Returns:
        Clips (B, T, H, W, 3), masks (B, T, H, W), and labels (B,), 1 with a patch.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] * 3 / SIZE
    clips = np.zeros((number, FRAMES, SIZE, SIZE, 3))
    masks = np.zeros((number, FRAMES, SIZE, SIZE), np.float32)
    for index, (clip, mask) in enumerate(zip(clips, masks, strict=True)):
        phase = rng.uniform(0, 6, (2, 3))
        waves = np.sin(x[..., None] + phase[0]) * np.cos(y[..., None] + phase[1])
        clip += 128 + 50 * waves + rng.normal(0, 3, clip.shape)
        if index % 2:
            top, left = rng.integers(0, SIZE - PATCH, 2)
            place = np.s_[:, top : top + PATCH, left : left + PATCH]
            clip[place] += rng.normal(0, 45, (FRAMES, PATCH, PATCH, 1))
            mask[place] = 1
    label = (np.arange(number) % 2).astype(np.float32)
    return clips.clip(0, 255).astype(np.uint8), masks, label


def patch_finder(steps: int = 30) -> ForgeryModule:
    """Train a small FTCN to tell clips with a patch from those without, in seconds."""
    model = CASES["ftcn_tt"].build(image_size=SIZE, num_frames=FRAMES)
    model.network = FTCNNetwork(num_frames=FRAMES, image_size=SIZE, width=16, dropout=0.0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.momentum = 0.3  # few steps must do for the statistics
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    model.train()
    for step in range(steps):
        clips, _, label = patched_clips(16, seed=step)
        logit = model(model.normalise(torch.as_tensor(clips))).logit
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.as_tensor(label))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()
