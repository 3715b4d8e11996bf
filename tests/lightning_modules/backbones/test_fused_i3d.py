"""The fused way of the ResNet with spatial kernels gives what its modules give one by one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lightning_modules.backbones import frames, fusing
from lightning_modules.backbones.fused_layers import TemporalPool
from lightning_modules.backbones.resnet3d import ResNet3D

WIDTH = 4


@pytest.fixture(autouse=True, params=[16, 150, 4096], ids=lambda size: f"tiles of {size}")
def tile_positions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut maps into single frames, runs of frames, and several whole clips."""
    monkeypatch.setattr(frames, "TILE_POSITIONS", request.param)


def make_pair(dtype: torch.dtype = torch.float64) -> tuple[ResNet3D, ResNet3D]:
    """Give two networks of the same weights: the fused one, and one that runs layer by layer."""
    torch.manual_seed(0)
    fused = ResNet3D(4, WIDTH, spatial=True).to(dtype)
    for module in fused.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, -1, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    plain = copy.deepcopy(fused)
    plain.fused = False
    return fused, plain


def make_clip(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def close(got: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def step(network: ResNet3D, clip: Tensor) -> Tensor:
    output = network(clip)
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    (output * weight).sum().backward()
    return output


SHAPES = [(1, 3, 4, 64, 64), (3, 3, 6, 32, 32), (2, 3, 4, 45, 70), (2, 3, 2, 33, 47)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_training_step_equals_layer_by_layer(shape: tuple[int, ...]) -> None:
    fused, plain = make_pair()
    clip = make_clip(*shape)
    assert fusing.is_applicable(fused, clip)
    close(step(fused, clip), step(plain, clip))
    for (name, mine), other in zip(fused.named_parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None, name
        assert other.grad is not None
        scale = 1 + float(other.grad.abs().max())
        close(mine.grad / scale, other.grad / scale, tolerance=1e-8)
    for mine, other in zip(fused.buffers(), plain.buffers(), strict=True):
        close(mine, other)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_evaluation_equals_layer_by_layer(shape: tuple[int, ...]) -> None:
    fused, plain = make_pair()
    clip = make_clip(*shape)
    with torch.no_grad():
        assert fusing.is_applicable(fused.eval(), clip)
        close(fused(clip), plain.eval()(clip))


@pytest.mark.parametrize("axis", ["spatial", "temporal", "stem"])
def test_frozen_weights_get_no_gradient_and_change_no_other(axis: str) -> None:
    fused, whole = make_pair()
    whole.fused = True
    clip = make_clip(2, 3, 4, 32, 32)
    for weight in fused.parameters():
        kernel = tuple(size > 1 for size in weight.shape[2:4])
        kinds = {(False, True): "spatial", (True, False): "temporal", (True, True): "stem"}
        weight.requires_grad_(kinds.get(kernel) != axis)
    count = sum(not weight.requires_grad for weight in fused.parameters())
    assert count == {"spatial": 16, "temporal": 9, "stem": 1}[axis]
    assert fusing.is_applicable(fused, clip)
    step(fused, clip)
    step(whole, clip)
    for mine, other in zip(fused.parameters(), whole.parameters(), strict=True):
        assert (mine.grad is None) == (not mine.requires_grad)
        if mine.grad is not None:
            assert other.grad is not None
            assert torch.equal(mine.grad, other.grad)


def test_frozen_weights_cost_no_weight_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for name in ("over_time_weight", "over_space_weight"):
        original = getattr(frames, name)

        def counted(*args: object, name: str = name, original: object = original) -> object:
            called.append(name)
            return original(*args)  # type: ignore[operator]

        monkeypatch.setattr(frames, name, counted)
    fused, _ = make_pair()
    for weight in fused.parameters():
        weight.requires_grad_(weight.ndim != 5 or weight.shape[2] == 1)
    step(fused, make_clip(2, 3, 4, 32, 32))
    assert set(called) == {"over_time_weight", "over_space_weight"}  # a with kernel 1 is trained
    called.clear()
    for weight in fused.parameters():
        weight.requires_grad_(weight.ndim != 5 or weight.shape[3] == 1)
    step(fused, make_clip(2, 3, 4, 32, 32))
    assert set(called) == {"over_time_weight"}


def test_half_precision_is_as_good_as_layer_by_layer() -> None:
    fused, plain = make_pair(torch.float32)
    accurate = copy.deepcopy(plain)
    clip = make_clip(2, 3, 4, 64, 64, dtype=torch.float32)
    expected = accurate(clip)
    with torch.autocast("cpu", torch.bfloat16):
        output, by_layer = fused(clip), plain(clip)
    assert output.dtype == torch.bfloat16
    # Random weights amplify rounding; layer by layer it is no smaller.
    assert (output - expected).norm() < 1.3 * (by_layer - expected).norm()
    output.float().sum().backward()
    for name, parameter in fused.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()
    close(fused.stem.bn.running_mean, accurate.stem.bn.running_mean, tolerance=1e-2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = fused.eval()(clip)
        assert half.dtype == torch.bfloat16
        by_layer = plain.eval()(clip)
    with torch.no_grad():
        accurate.load_state_dict(fused.state_dict())
        expected = accurate.eval()(clip)
    assert (half - expected).norm() < 0.1 * expected.norm()


@pytest.mark.parametrize("halo", [0, 1])
def test_pool_over_time_gives_the_gradient_to_the_first_of_equal_frames(halo: int) -> None:
    clip = torch.randint(0, 2, (2, 8, 3, 5, 4)).double()  # half of the pairs are ties
    padded = F.pad(clip, (0, 0) * 3 + (halo, halo)).requires_grad_()
    expected = clip.permute(0, 4, 1, 2, 3).requires_grad_()
    pooled = F.max_pool3d(expected, (2, 1, 1))
    output = TemporalPool.apply(padded, halo)
    gradient = torch.randn_like(pooled)
    pooled.backward(gradient)
    inside = slice(halo, halo + 4)
    assert torch.equal(output[:, inside], pooled.permute(0, 2, 3, 4, 1))
    output[:, inside].backward(gradient.permute(0, 2, 3, 4, 1))
    assert padded.grad is not None
    assert expected.grad is not None
    assert torch.equal(padded.grad[:, halo : halo + 8], expected.grad.permute(0, 2, 3, 4, 1))
    if halo:
        assert not output[:, [0, -1]].any()
        assert not padded.grad[:, [0, -1]].any()


def test_layers_run_one_by_one_where_they_have_to() -> None:
    fused, _ = make_pair()
    clip = make_clip(1, 3, 2, 16, 16)
    assert not fusing.is_applicable(fused, clip)  # the last norms would see a single value
    assert fusing.is_applicable(fused, make_clip(2, 3, 2, 16, 16))
    assert not fusing.is_applicable(fused, make_clip(2, 3, 3, 16, 16))
    with torch.no_grad():
        assert fusing.is_applicable(fused.eval(), clip)
    assert not fusing.is_applicable(fused, clip)  # gradients in evaluation mode
    fused.stages["stage3"][1].b.conv.register_forward_hook(lambda *_: None)
    with torch.no_grad():
        assert not fusing.is_applicable(fused, clip)


def test_memory_on_an_accelerator_is_asked_for() -> None:
    clip = torch.empty(2, 3, 4, 32, 32, device="meta")
    assert not fusing.is_applicable(ResNet3D(4, WIDTH, spatial=True), clip)
    assert fusing.is_applicable(ResNet3D(4, WIDTH, spatial=True, recompute=True), clip)
