"""The fixed filters and how they are laid out."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from lightning_modules.backbones.srm import (
    ResidualAttention,
    SRMImage,
    SRMSeparate,
    separate_bank,
    srm_filters,
)


def test_filters_see_no_flat_colour_and_no_slope() -> None:
    # Each sums to zero, as a high-pass filter must; H2 is a second derivative.
    filters = srm_filters().double()
    assert filters.sum((1, 2)).abs().max() < 1e-6
    x = torch.arange(12.0, dtype=torch.float64).expand(1, 1, 12, 12)
    for taps in filters:
        assert F.conv2d(x, taps[None, None]).abs().max() < 1e-5


def test_residual_sums_the_colours_and_is_truncated() -> None:
    image = torch.zeros(1, 3, 9, 9)
    image[:, :, 4, 4] = 0.5
    residual = SRMImage()(image)[0]
    torch.testing.assert_close(residual[:, 2:7, 2:7], 1.5 * srm_filters().flip(1, 2))
    assert SRMImage()(100 * image).abs().max() == 3


def test_channels_of_the_official_bank_see_one_filter_three_times() -> None:
    bank, filters = separate_bank(4, "official"), srm_filters()
    kinds = [next(k for k in range(3) if torch.equal(taps[0], filters[k])) for taps in bank]
    assert kinds == [0] * 4 + [1] * 4 + [2] * 4
    intended = separate_bank(4, "intended")
    assert all(torch.equal(taps[0], filters[i % 3]) for i, taps in enumerate(intended))
    with pytest.raises(ValueError, match="no SRM layout 'offical'"):
        separate_bank(4, "offical")  # type: ignore[arg-type]


def test_filters_are_in_the_state_and_out_of_the_parameters() -> None:
    module = SRMSeparate(4)
    assert "kernel" in module.state_dict()
    assert "kernel" not in dict(module.named_parameters())
    module.double()
    maps = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    assert module(maps).shape == maps.shape


def test_attention_filters_the_residual_again() -> None:
    guide = ResidualAttention((4, 8)).eval()
    residual = torch.randn(2, 3, 21, 21)
    with torch.no_grad():
        attention = guide(residual)
        assert attention.shape == (2, 1, 8, 8)
        assert 0 < attention.min() < attention.max() < 1
        again = guide.attention(guide.conv(SRMImage()(residual)))
    torch.testing.assert_close(attention, again)
