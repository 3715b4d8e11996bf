"""Maps of a network that has learned where fakes are: they follow weights, score and place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from experiments.explaining.checks import (
    compare_randomised,
    find_place,
    follow_score,
    rank_correlation,
    shuffled,
    similarity,
)
from experiments.explaining.maps import Explainer
from lightning_modules import ForgeryModule
from tests.support.patches import patch_finder, patched_clips


@pytest.fixture(scope="module")
def model() -> ForgeryModule:
    return patch_finder()


@pytest.fixture(scope="module")
def fakes() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    clips, masks, label = patched_clips(16, seed=1000)
    return clips[label == 1], masks[label == 1]


def test_the_network_has_learned(model: ForgeryModule) -> None:
    clips, _, label = patched_clips(32, seed=2000)
    with torch.no_grad():
        logit = model(model.normalise(torch.as_tensor(clips))).logit
    assert ((logit > 0).numpy() == (label > 0)).mean() > 0.9


def test_maps_follow_the_weights(
    model: ForgeryModule, fakes: tuple[NDArray[np.uint8], NDArray[np.float32]]
) -> None:
    changed = compare_randomised(model, fakes[0])
    # The patch is nearly all the detail there is, so that any network reacts there.
    assert changed.correlation < 0.75
    assert changed.similarity < 0.75


def test_maps_stay_where_no_weight_is_shuffled(
    model: ForgeryModule, fakes: tuple[NDArray[np.uint8], NDArray[np.float32]]
) -> None:
    assert compare_randomised(model, fakes[0], share=0).correlation == pytest.approx(1)


def test_shuffling_keeps_values_and_starts_at_the_end(model: ForgeryModule) -> None:
    before = list(model.parameters())
    after = list(shuffled(model, share=0.3).parameters())
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert changed[-3]
    assert not any(changed[: len(changed) // 2])
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one.flatten().sort()[0], other.flatten().sort()[0])


def test_what_maps_mark_makes_the_score(
    model: ForgeryModule, fakes: tuple[NDArray[np.uint8], NDArray[np.float32]]
) -> None:
    clips = fakes[0][:4]
    maps = Explainer(model).explain(clips)
    curves = follow_score(model, clips, maps)
    assert curves.deletion < curves.random_deletion - 1
    assert curves.insertion > curves.random_insertion + 0.5
    assert curves.better > 0.7
    turned = follow_score(model, clips[:1], maps.max() - maps[:1])
    assert turned.deletion > curves.deletion + 1


def test_maps_mark_the_patch(
    model: ForgeryModule, fakes: tuple[NDArray[np.uint8], NDArray[np.float32]]
) -> None:
    clips, masks = fakes
    placed = find_place(Explainer(model).explain(clips), masks)
    assert placed.area < 0.1
    assert placed.auroc > 0.85
    assert placed.pointing > 0.4
    chance = find_place(np.random.default_rng(0).random((8, 4, 8, 8), np.float32), masks)
    assert chance.auroc < 0.7


def test_likeness_of_maps() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((2, 3, 8, 8), np.float32)
    assert rank_correlation(maps, np.exp(maps)) == pytest.approx(1)
    assert rank_correlation(maps, -maps) == pytest.approx(-1)
    assert similarity(maps, 7 * maps) == pytest.approx(1)
    assert similarity(maps, rng.random((2, 3, 8, 8), np.float32)) < 0.5
