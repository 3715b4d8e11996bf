"""The fused way of the temporal ResNet gives what its modules give one by one."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.backbones import fused_resnet3d, fusing, rows
from lightning_modules.backbones.resnet3d import ConvNorm, ResNet3D

WIDTH = 4


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut these small maps into several tiles, as large ones are."""
    monkeypatch.setattr(rows, "TILE_POSITIONS", 64)
    monkeypatch.setattr(fused_resnet3d, "STEM_POSITIONS", 2048)


def make_pair(num_stages: int, dtype: torch.dtype = torch.float64) -> tuple[ResNet3D, ResNet3D]:
    """Give two networks of the same weights: the fused one, and one that runs layer by layer."""
    torch.manual_seed(num_stages)
    fused = ResNet3D(num_stages, WIDTH).to(dtype)
    for module in fused.modules():
        if isinstance(module, nn.BatchNorm3d):
            # Scales of both signs: the maxima behind a norm must not be pulled in front of it.
            nn.init.uniform_(module.weight, -1, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    plain = copy.deepcopy(fused)
    plain.fused = False
    return fused, plain


def make_clip(size: int = 64, num_clips: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(num_clips, 3, 4, size, size, dtype=dtype)


def close(got: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("num_stages", [3, 4])
@pytest.mark.parametrize("num_clips", [1, 2])
def test_training_step_equals_layer_by_layer(num_stages: int, num_clips: int) -> None:
    fused, plain = make_pair(num_stages)
    clip = make_clip(num_clips=num_clips)
    assert fusing.is_applicable(fused, clip)
    outputs = []
    for network in (fused, plain):
        output = network(clip)
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        outputs.append(output)

    close(outputs[0], outputs[1])
    for (name, mine), other in zip(fused.named_parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None, name
        assert other.grad is not None
        close(mine.grad, other.grad, tolerance=1e-8)
    for mine, other in zip(fused.buffers(), plain.buffers(), strict=True):
        close(mine, other)


def test_frozen_weights_get_no_gradient_and_change_no_other() -> None:
    fused, whole = make_pair(3)
    whole.fused = True
    frozen = [w for w in fused.parameters() if w.ndim == 5 and w.shape[2] == 3]
    for weight in frozen:
        weight.requires_grad_(False)
    clip = make_clip(32)
    assert fusing.is_applicable(fused, clip)
    fused(clip).square().sum().backward()
    whole(clip).square().sum().backward()
    assert len(frozen) == 8
    for mine, other in zip(fused.parameters(), whole.parameters(), strict=True):
        assert (mine.grad is None) == (not mine.requires_grad)
        if mine.grad is not None:
            assert other.grad is not None
            assert torch.equal(mine.grad, other.grad)


@pytest.mark.parametrize("num_stages", [3, 4])
def test_evaluation_equals_layer_by_layer(num_stages: int) -> None:
    fused, plain = make_pair(num_stages)
    fused.eval()
    plain.eval()
    clip = make_clip()
    with torch.no_grad():
        assert fusing.is_applicable(fused, clip)
        close(fused(clip), plain(clip))


def test_evaluation_in_float32_and_bfloat16() -> None:
    fused, plain = make_pair(3, torch.float32)
    fused.eval()
    plain.eval()
    clip = make_clip(dtype=torch.float32)
    with torch.no_grad():
        expected = plain(clip)
        close(fused(clip), expected, tolerance=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            half = fused(clip)
    assert half.dtype == torch.bfloat16
    assert (half - expected).norm() < 0.05 * expected.norm()


def test_training_under_autocast_keeps_weights_and_statistics_in_float32() -> None:
    fused, plain = make_pair(3, torch.float32)
    clip = make_clip(dtype=torch.float32)
    accurate = copy.deepcopy(plain)
    with torch.autocast("cpu", torch.bfloat16):
        output, by_layer = fused(clip), plain(clip)
    expected = accurate(clip)
    assert output.dtype == torch.bfloat16
    # Random weights amplify rounding; layer by layer it is no smaller.
    assert (output - expected).norm() < 1.2 * (by_layer - expected).norm()
    output.float().sum().backward()
    for name, parameter in fused.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()
    for mine, other in zip(fused.buffers(), accurate.buffers(), strict=True):
        assert mine.dtype == other.dtype
    close(fused.stem.bn.running_mean, accurate.stem.bn.running_mean, tolerance=1e-5)
    close(fused.stem.bn.running_var, accurate.stem.bn.running_var, tolerance=1e-5)


def test_of_equal_values_the_first_gets_the_gradient() -> None:
    # A clip without any texture: all maxima are ties.
    fused, plain = make_pair(3)
    clip = torch.ones(1, 3, 4, 32, 32, dtype=torch.float64)
    clip[..., 16:] = -1
    for network in (fused, plain):
        network(clip).square().sum().backward()
    for mine, other in zip(fused.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        scale = float(other.grad.abs().max())
        close(mine.grad / (scale + 1), other.grad / (scale + 1), tolerance=1e-8)


@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_statistics_follow_the_norms_momentum(momentum: float | None) -> None:
    fused, plain = make_pair(3)
    for network in (fused, plain):
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = momentum
        with torch.no_grad():
            for seed in (0, 1):
                torch.manual_seed(seed)
                network(make_clip(32))
    for mine, other in zip(fused.buffers(), plain.buffers(), strict=True):
        close(mine, other)


def spoil(network: ResNet3D, how: str) -> None:
    block = network.stages["stage3"][1]
    if how == "hook":
        block.a.conv.register_forward_hook(lambda *_: None)
    elif how == "frozen norm":
        block.a.bn.eval()
    elif how == "synchronised norms":
        network.stages["stage3"] = nn.SyncBatchNorm.convert_sync_batchnorm(network.stages["stage3"])
    elif how == "replaced convolution":
        block.a.conv = nn.Conv3d(4 * 2 * WIDTH, 2 * WIDTH, 1, bias=False).double()
    elif how == "one norm's own eps":
        block.a.bn.eps = 1e-3
    else:
        network.fused = False


@pytest.mark.parametrize(
    "how",
    [
        "hook",
        "frozen norm",
        "synchronised norms",
        "replaced convolution",
        "one norm's own eps",
        "switched off",
    ],
)
def test_layers_run_one_by_one_where_they_have_to(how: str) -> None:
    fused, _ = make_pair(3)
    spoil(fused, how)
    assert not fusing.is_applicable(fused, make_clip(32))


def test_a_hook_on_an_inner_layer_sees_it_run() -> None:
    fused, plain = make_pair(3)
    fused.eval()
    plain.eval()
    seen: list[Tensor] = []
    fused.stages["stage2"][0].b.register_forward_hook(lambda _m, _i, output: seen.append(output))
    clip = make_clip(32)
    with torch.no_grad():
        close(fused(clip), plain(clip))
    assert seen[0].shape == (2, WIDTH, 4, 8, 8)


def test_gradients_reach_the_pixels() -> None:
    fused, _ = make_pair(3)
    fused.eval()
    clip = make_clip(32).requires_grad_()
    fused(clip).sum().backward()
    assert clip.grad is not None
    assert clip.grad.abs().sum() > 0


@pytest.mark.parametrize(("size", "expected"), [(14, 1), (30, 2), (37, 2), (66, 4)])
def test_odd_sizes_are_halved_with_floor(size: int, expected: int) -> None:
    network, _ = make_pair(3)
    network.eval()
    with torch.no_grad():
        assert network(make_clip(size)).shape == (2, 16 * WIDTH, 2, expected, expected)
    assert network.smallest_size == 14


def test_initialisation_is_as_executed_by_the_official_code() -> None:
    torch.manual_seed(0)
    network = ResNet3D(4, 64)
    for name, layer in network.named_modules():
        if not isinstance(layer, ConvNorm):
            continue
        weight, kind = layer.conv.weight.detach(), name.split(".")[-1]
        kept = kind in ("a", "c") or name == "stages.stage2.0.shortcut"
        if kept:
            std = math.sqrt(2 / (weight.shape[0] * weight.shape[2]))
        else:  # uniform on +-1 / sqrt(fan_in)
            bound = 1 / math.sqrt(weight[0].numel())
            std = bound / math.sqrt(3)
            assert float(weight.abs().max()) <= bound
        tolerance = 5 / math.sqrt(2 * weight.numel())
        assert float(weight.std()) == pytest.approx(std, rel=tolerance), name
        # A normal has a kurtosis of 3, a uniform one of 1.8.
        kurtosis = float((weight / weight.std()).pow(4).mean())
        assert (kurtosis > 2.4) == kept, name
        assert layer.bn.weight.unique().tolist() == [float(kind != "c")]
        assert not layer.bn.bias.any()


def test_number_of_parameters_of_each_part() -> None:
    network = ResNet3D(4, 64)
    parts = {"stem": network.stem, **dict(network.stages.items())}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    assert counts == {
        "stem": 1_088,
        "stage2": 191_232,
        "stage3": 891_904,
        "stage4": 5_263_360,
        "stage5": 10_770_432,
    }


def test_memory_of_a_recomputing_network_on_an_accelerator_is_asked_for() -> None:
    clip = torch.empty(1, 3, 4, 32, 32, device="meta")
    assert not fusing.is_applicable(ResNet3D(3, WIDTH), clip)
    assert fusing.is_applicable(ResNet3D(3, WIDTH, recompute=True), clip)
