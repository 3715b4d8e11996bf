"""Attention between the positions of two streams."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_modules.backbones.precision import in_float32, without_autocast

#: Channels over channels of the keys.
REDUCTION = 8


class DualCrossModalityAttention(nn.Module):
    """Each stream reads from all positions of the other; the identity as long as gamma is 0.

    Luo et al., CVPR 2021, https://arxiv.org/abs/2103.12376. Energies are not divided by the root
    of the channels, and a linear layer learns over positions, so the maps' size is fixed. Energies
    and softmax are computed in float32 at least, whatever autocast says: the energies are large.

    Args:
        channels: Channels C of both streams.
        size: Height and width of the maps.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        keys, positions = channels // REDUCTION, size**2
        self.gamma1 = nn.Parameter(torch.zeros(1))
        self.gamma2 = nn.Parameter(torch.zeros(1))
        self.key1 = nn.Conv2d(channels, keys, 1)
        self.key2 = nn.Conv2d(channels, keys, 1)
        self.key_shared = nn.Conv2d(keys, keys, 1)
        self.linear1 = nn.Linear(positions, positions)
        self.linear2 = nn.Linear(positions, positions)
        self.softmax = nn.Softmax(dim=-1)
        self.value1 = nn.Conv2d(channels, channels, 1)
        self.value2 = nn.Conv2d(channels, channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_normal_(module.weight, gain=0.02)  # official initialiser

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange between x and y, both (N, C, size, size).

        Returns:
            Both streams, in shapes and order as given.
        """
        to_x, to_y = self.attend(x, y)
        # The names cross: gamma1 scales what x reads from y.
        from_y = self.value2(y).flatten(2) @ to_x.to(y.dtype).mT
        from_x = self.value1(x).flatten(2) @ to_y.to(x.dtype).mT
        out_x = self.gamma1 * from_y.view_as(x) + x
        return out_x, self.gamma2 * from_x.view_as(y) + y

    def attend(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what x takes from each position of y, and y from x.

        Returns:
            Two matrices (N, P, P) with rows that sum to 1, float32 or float64.
        """
        with without_autocast(x):
            keys_x = in_float32(self.key_shared, in_float32(self.key1, x)).flatten(2)
            keys_y = in_float32(self.key_shared, in_float32(self.key2, y)).flatten(2)
            energy = keys_x.mT @ keys_y
            to_x = self.softmax(in_float32(self.linear1, energy))
            return to_x, self.softmax(in_float32(self.linear2, energy.mT))
