"""Primitives of the fused network against the library's own layers."""

from __future__ import annotations

import torch
from torch.nn import functional as F  # noqa: N812

from lightning_modules.backbones import rows


def make_rows(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_rows_are_a_view_back() -> None:
    clip = make_rows(2, 5, 3, 4, 6)
    as_rows = rows.to_rows(clip)
    assert as_rows.shape == (8, 3, 6, 5)
    torch.testing.assert_close(rows.from_rows(as_rows, 2), clip)


def test_convolution_and_its_gradients() -> None:
    for kernel in (1, 3, 5):
        weight = make_rows(7, 5, kernel, 1, 1).requires_grad_()
        clip = make_rows(2, 5, 6, 4, 3).requires_grad_()
        expected = F.conv3d(clip, weight, padding=(kernel // 2, 0, 0))
        gradient = torch.randn_like(expected)
        clip_grad, weight_grad = torch.autograd.grad(expected, (clip, weight), gradient)
        given, taken = rows.to_rows(clip.detach()), rows.to_rows(gradient)
        output = rows.convolve(given, weight.detach())
        torch.testing.assert_close(rows.from_rows(output, 2), expected)
        back = rows.convolve_back(taken, weight.detach())
        torch.testing.assert_close(rows.from_rows(back, 2), clip_grad)
        torch.testing.assert_close(rows.weight_gradient(given, taken, kernel), weight_grad)


def test_moments_give_the_statistics_of_any_pointwise_convolution() -> None:
    tiles = [make_rows(n, 4, 3, 5) * 3 + 100 for n in (4, 4, 2)]  # far from zero: cancellation
    weight = make_rows(8, 5)
    moments = rows.moments_of(tile.float() for tile in tiles)
    mean, variance = rows.statistics_of_pointwise(weight.float(), *moments[:2])
    output = torch.cat(tiles).flatten(0, 2) @ weight.T
    assert moments.num_positions == len(output)
    torch.testing.assert_close(mean.double(), output.mean(0), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(variance.double(), output.var(0, correction=0), rtol=1e-4, atol=0)


def test_pool_and_unpool_agree_with_the_library_also_on_ties() -> None:
    maps = torch.randint(0, 3, (1, 5, 4, 6, 8)).double().requires_grad_()
    expected = F.max_pool3d(maps, (1, 2, 2))
    gradient = torch.randn_like(expected)
    (maps_grad,) = torch.autograd.grad(expected, maps, gradient)
    given = rows.to_rows(maps.detach())
    pooled, choice = rows.max_pool_with_choice(given)
    torch.testing.assert_close(rows.from_rows(pooled, 1), expected)
    torch.testing.assert_close(rows.max_pool(given), pooled)
    back = rows.max_unpool(rows.to_rows(gradient), choice)
    torch.testing.assert_close(rows.from_rows(back, 1), maps_grad)


def test_tiles_cover_all_rows_in_steps_of_the_multiple() -> None:
    maps = torch.empty(50, 32, 56, 1)
    tiles = rows.tiles_of(maps, multiple=4)
    covered = [index for tile in tiles for index in range(tile.start, tile.stop)]
    assert covered == list(range(50))
    assert all((tile.stop - tile.start) % 4 == 0 for tile in tiles[:-1])
    assert rows.tiles_of(maps.to("meta")) == [slice(0, 50)]
