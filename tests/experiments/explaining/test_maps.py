"""Maps of every method: shapes, units, and what is left untouched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments.explaining.layers import as_frames, clip_logit, find_layers
from experiments.explaining.maps import Explainer, explain_clips, without_detail
from lightning_modules.outputs import ForgeryOutput
from tests.support.cases import CASES, NETWORK_CASES, MethodCase

SIZE = 64


@pytest.mark.parametrize("case", NETWORK_CASES, ids=lambda case: case.name)
def test_every_method_explains_each_clip_by_itself(case: MethodCase) -> None:
    size = 2 * SIZE if case.name == "clip_linear" else SIZE  # whose patches are large
    model = case.build(image_size=size).eval()
    shape = (2, case.num_frames, size, size, 3)
    clips = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    trained = [weight.requires_grad for weight in model.parameters()]
    explainer = Explainer(model)
    maps = explainer.explain(clips)
    assert maps.dtype == np.float32
    assert maps.shape[:2] == (2, case.num_frames)
    assert maps.shape[2] == maps.shape[3] >= 4
    assert np.isfinite(maps).all()
    assert maps.min() >= 0 < maps.max()
    assert [weight.requires_grad for weight in model.parameters()] == trained
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    np.testing.assert_allclose(explainer.explain(clips[1:]), maps[1:], rtol=1e-3, atol=1e-6)


def test_places_of_a_signed_map_add_up_to_what_detail_adds_to_the_score() -> None:
    model = CASES["i3d"].build(image_size=128).eval()
    clips = np.random.default_rng(1).integers(0, 256, (1, 4, 128, 128, 3), np.uint8)
    with torch.no_grad():
        full, plain = (
            float(model(model.normalise(torch.as_tensor(c))).logit)
            for c in (clips, without_detail(clips))
        )
    assert abs(full - plain) > 1e-4
    total = float(explain_clips(model, clips, signed=True).sum())
    assert total == pytest.approx(full - plain, rel=1e-3)


@pytest.mark.filterwarnings("ignore:(Multiple layers|Internal batch size):UserWarning")
@pytest.mark.parametrize("name", ["i3d", "hff", "ftcn_tt", "sta_vb"])
def test_maps_are_those_of_captum(name: str) -> None:
    captum = pytest.importorskip("captum.attr", reason="captum, of the extra [dev], is missing")
    case = CASES[name]
    model = case.build(image_size=SIZE).eval().requires_grad_(False)
    shape = (1, case.num_frames, SIZE, SIZE, 3)
    clip = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    explainer = Explainer(model)
    layers = explainer.layers if len(explainer.layers) > 1 else explainer.layers[0]
    theirs = captum.LayerIntegratedGradients(lambda given: clip_logit(model, given), layers)
    ends = [model.normalise(torch.as_tensor(c)) for c in (clip, without_detail(clip))]
    how = {"n_steps": model.evidence_steps, "method": "riemann_middle", "internal_batch_size": 1}
    found = theirs.attribute(*ends, **how)
    maps = found if isinstance(found, list) else [found]
    wanted = sum(as_frames(part, 1, case.num_frames) for part in maps)
    ours = explainer.explain(clip, signed=True)
    np.testing.assert_allclose(ours, wanted.numpy(), rtol=1e-3, atol=1e-5 * np.abs(ours).max())


@pytest.mark.parametrize("name", ["altfreezing", "ftcn_tt"])
def test_small_faces_get_maps_that_tell_their_parts_apart(name: str) -> None:
    case = CASES[name]
    model = case.build(image_size=32).eval()
    shape = (1, case.num_frames, 32, 32, 3)
    clip = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    maps = explain_clips(model, clip, signed=True)
    assert maps.shape == (1, case.num_frames, 4, 4)
    assert np.ptp(maps) > 0


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shapes = nn.Conv2d(3, 8, 8, stride=8)
        self.unused = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 1)

    def forward(self, clip: Tensor) -> Tensor:
        maps = self.shapes(clip.mean(2)).relu()
        self.unused(maps)
        out: Tensor = self.head(maps.mean((2, 3))).squeeze(1)
        return out


def test_a_new_method_is_explained_by_the_last_map_that_its_score_depends_on() -> None:
    model = CASES["i3d"].build(image_size=SIZE).eval()
    network = _Network()
    model.network = network
    model.evidence_layers = list  # type: ignore[method-assign]
    model.forward = lambda clip: ForgeryOutput(network(clip))  # type: ignore[method-assign]
    assert find_layers(model) == [network.shapes]
    maps = explain_clips(model, np.zeros((1, 4, SIZE, SIZE, 3), np.uint8))
    assert maps.shape == (1, 4, SIZE // 8, SIZE // 8)


def test_a_network_without_maps_is_refused_by_name() -> None:
    model = CASES["i3d"].build(image_size=SIZE).eval()
    head = nn.Linear(3, 1)
    model.network = head
    model.evidence_layers = list  # type: ignore[method-assign]
    model.forward = lambda clip: ForgeryOutput(  # type: ignore[method-assign]
        head(clip.mean((2, 3, 4))).squeeze(1)
    )
    with pytest.raises(ValueError, match=r"I3D has no map .*evidence_layers"):
        Explainer(model)


def test_frames_share_a_map_that_stands_for_several() -> None:
    maps = torch.arange(2 * 3 * 2.0).reshape(1, 2, 3, 1, 2)
    frames = as_frames(maps, 1, 6)
    assert frames.shape == (1, 6, 1, 2)
    assert torch.equal(frames[:, 0], frames[:, 1])
    assert frames.sum() == maps.sum()
    flat = maps.transpose(1, 2).flatten(0, 1)
    assert torch.equal(as_frames(flat, 1, 6), frames)
