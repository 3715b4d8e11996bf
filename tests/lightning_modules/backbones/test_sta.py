"""StA's network: CLIP at first, every clip for itself, and two ways with the same numbers."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.backbones import fused_sta
from lightning_modules.backbones.clip_tower import build_tower, make_tower
from lightning_modules.backbones.sta import StABackbone, StANetwork, build_network
from lightning_modules.backbones.sta_adapter import Adapter, Grid

FRAMES, SIZE, PATCH = 3, 32, 8


def make(dtype: torch.dtype = torch.float32) -> StANetwork:
    """Build a small network in which every number matters."""
    torch.manual_seed(0)
    network = build_network(FRAMES, SIZE, PATCH, 64, num_layers=3, num_heads=4)
    network.dropout.p = 0.0
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm3d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
    return network.to(dtype).eval()


def clips(batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, FRAMES, SIZE, SIZE, generator=generator).to(dtype)


def layer_by_layer(network: StANetwork) -> StANetwork:
    plain = deepcopy(network)
    plain.backbone.fused = False
    return plain


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_new_adapters_leave_clip_as_it_is(quick_gelu: bool) -> None:
    torch.manual_seed(0)
    options = {"image_size": SIZE, "patch_size": PATCH, "width": 64, "num_layers": 3}
    tower = make_tower(**options, num_heads=4, quick_gelu=quick_gelu)
    plain = deepcopy(tower).eval()
    backbone, clip = StABackbone(tower, FRAMES).eval(), clips(2)
    with torch.no_grad():
        expected = plain(clip.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, FRAMES))
        torch.testing.assert_close(backbone(clip), expected, rtol=1e-6, atol=1e-6)
        block, tokens = backbone.blocks[0], torch.randn(FRAMES, 17, 64)
        assert torch.equal(block.adapter(tokens, backbone.grid), tokens)  # type: ignore[operator]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_evaluation_is_equal_in_both_ways(dtype: torch.dtype) -> None:
    network, clip = make(dtype), clips(2, dtype)
    kept = clip.clone()
    tolerance = {"rtol": 1e-4, "atol": 1e-6} if dtype == torch.float32 else {}
    with torch.no_grad():
        expected = layer_by_layer(network)(clip)
        torch.testing.assert_close(network(clip), expected, **tolerance)
        for index in range(2):  # whatever else is in the batch
            alone = network(clip[index : index + 1]).logits
            torch.testing.assert_close(alone, expected.logits[index : index + 1], **tolerance)
        swapped = torch.stack([clip[0], torch.randn_like(clip[0])])
        torch.testing.assert_close(network(swapped).logits[0], expected.logits[0], **tolerance)
    assert torch.equal(clip, kept)


@pytest.mark.parametrize("recompute", [True, False])
def test_training_is_equal_in_both_ways(recompute: bool) -> None:
    network, clip = make(torch.float64).train(), clips(2, torch.float64)
    plain = layer_by_layer(network)
    network.backbone.recompute = recompute
    for one in (network, plain):
        one(clip).logits.square().sum().backward()
    unreached = {id(p) for m in _adapter(network, -1).unreached() for p in m.parameters()}
    for (name, mine), expected in zip(network.named_parameters(), plain.parameters(), strict=True):
        assert expected.grad is not None
        if id(mine) in unreached:
            assert mine.grad is None
            assert not expected.grad.any()
        else:
            torch.testing.assert_close(mine.grad, expected.grad, msg=name)
    for mine, theirs in zip(
        _adapter(network, 0).buffers(), _adapter(plain, 0).buffers(), strict=True
    ):
        torch.testing.assert_close(mine, theirs)  # norms saw the batch once, not twice


def _adapter(network: StANetwork, index: int) -> Adapter:
    adapter = network.backbone.blocks[index].adapter
    assert isinstance(adapter, Adapter)
    return adapter


def test_a_frozen_tower_gets_no_gradients_and_keeps_little() -> None:
    kept = {}
    for recompute in (True, False):
        network = make().train()
        network.backbone.recompute = recompute
        network.freeze_tower()
        network.freeze_unreached()
        kept[recompute] = _kept_bytes(network)
        for name, parameter in network.named_parameters():
            trained = any(word in name for word in ("adapter", "temporal", "ln_post", "head"))
            assert trained or not parameter.requires_grad
            assert (parameter.grad is None) != parameter.requires_grad, name
            # Else DistributedDataParallel warns, and copies in each step.
            assert parameter.grad is None or parameter.grad.stride() == parameter.stride(), name
    plain = layer_by_layer(make().train())
    plain.freeze_tower()
    assert kept[True] < 0.55 * kept[False]
    assert kept[True] < _kept_bytes(plain) / 3


def _kept_bytes(network: StANetwork) -> int:
    """Run a step, and count the bytes that are kept for the backward pass."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(clips(1)).logits.square().sum()
    total = sum(storages.values())
    loss.backward()
    return total


def test_it_runs_layer_by_layer_where_somebody_looks_in() -> None:
    network = make()
    assert fused_sta.is_applicable(network.backbone)
    handle = _adapter(network, 0).act_mix.register_forward_hook(lambda *_: None)
    assert not fused_sta.is_applicable(network.backbone)
    handle.remove()
    network.backbone.fused = False
    assert not fused_sta.is_applicable(network.backbone)


def test_bfloat16_stays_near() -> None:
    network, clip = make(), clips(2)
    with torch.no_grad():
        expected = network(clip).logits
        with torch.autocast("cpu", torch.bfloat16):
            half = network(clip).logits.float()
    torch.testing.assert_close(half, expected, rtol=0.1, atol=0.05)


def test_synchronised_norms_are_called_as_they_are() -> None:
    network, clip = make(), clips(2)
    with torch.no_grad():
        expected = network(clip).logits
        synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        assert fused_sta.is_applicable(synchronised.backbone)
        torch.testing.assert_close(synchronised(clip).logits, expected)


def test_what_an_attention_row_holds_is_not_limited() -> None:
    """More patches than rows are computed at a time."""
    torch.manual_seed(0)
    grid, adapter = Grid(2, 12, 12), Adapter(16).eval()
    nn.init.normal_(adapter.up.weight)
    tokens = torch.randn(2, 145, 16)
    assert fused_sta.ATTENTION_ROWS < 2 * 144
    with torch.no_grad():
        expected, mine = adapter(tokens, grid), tokens.clone()
        fused_sta._adapt_in_place(adapter, mine, grid)
    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)


def test_the_default_tower_is_clips() -> None:
    with torch.device("meta"):
        tower = build_tower("ViT-L-14-quickgelu", 224, 14)
    assert tower.conv1.out_channels == 1024
    assert tower.grid_size == (16, 16)
    assert len(tower.transformer.resblocks) == 14
    assert tower.transformer.resblocks[0].attn.num_heads == 16
    assert "proj" not in tower.state_dict()


@pytest.mark.parametrize(
    ("name", "size", "options", "words"),
    [
        ("ViT-L-15", 224, {}, "open_clip has no model 'ViT-L-15'"),
        ("RN50", 224, {}, "no plain vision transformer"),
        ("ViT-B-16-SigLIP", 224, {}, "no plain vision transformer"),
        ("coca_ViT-B-32", 224, {}, "no plain vision transformer"),
        ("ViT-B-32-quickgelu", 230, {}, "230 pixels are no whole number of patches of 32"),
        ("ViT-B-32-quickgelu", 224, {"num_layers": 13}, "12 blocks; num_layers cannot be 13"),
        ("ViT-B-32-quickgelu", 224, {"num_layers": 0}, "num_layers cannot be 0"),
        ("ViT-B-32-quickgelu", 224, {"depth": 3}, "a tower has no option depth"),
        ("ViT-B-32-quickgelu", 224, {"head_width": 0}, "a tower's head_width cannot be 0"),
        ("ViT-B-32-quickgelu", 224, {"patch_size": 0.5}, "a tower's patch_size cannot be 0.5"),
        ("ViT-B-32-quickgelu", 224, {"mlp_ratio": -1}, "a tower's mlp_ratio cannot be -1"),
        ("ViT-B-32-quickgelu", 224, {"width": 100, "head_width": 30}, "do not go into 3 heads"),
    ],
)
def test_towers_that_cannot_be_built_are_told(
    name: str, size: int, options: dict[str, float], words: str
) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=words):
        build_tower(name, size, **options)  # type: ignore[arg-type]


def test_clips_of_another_size_are_told() -> None:
    with pytest.raises(ValueError, match=r"built for clips \(B, 3, 3, 32, 32\) and got"):
        make()(torch.zeros(1, 3, 8, 32, 32))
    with pytest.raises(ValueError, match="3 channels of an adapter do not go into 2 heads"):
        Adapter(6)
