"""3-D convolutions that run as 2-D ones where their kernel allows it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class FactorizedConv3d(nn.Conv3d):
    """Run kernels of the forms (k, 1, 1) and (1, k, k) as 2-D convolutions.

    Same parameters, key names and numbers as `nn.Conv3d`; libraries treat 2-D convolutions much
    better than 3-D ones with a kernel that is flat in one direction. Any other kernel, a padding
    mode other than zeros, a padding given as a word and unbatched input take the way of
    `nn.Conv3d`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve clips of shape (B, C, T, H, W) to (B, C', T', H', W')."""
        if input.ndim != 5 or self.padding_mode != "zeros" or isinstance(self.padding, str):
            return super().forward(input)
        if self.kernel_size[1:] == self.stride[1:] == (1, 1) and self.padding[1:] == (0, 0):
            return self._over_time(input)
        if self.kernel_size[0] == self.stride[0] == 1 and self.padding[0] == 0:
            return self._over_space(input)
        return super().forward(input)

    def _over_time(self, clip: Tensor) -> Tensor:
        """Take all positions as one axis: a view, also for channels-last memory."""
        output = F.conv2d(
            clip.flatten(3),
            self.weight[..., 0],
            self.bias,
            stride=(self.stride[0], 1),
            padding=(int(self.padding[0]), 0),
            dilation=(self.dilation[0], 1),
            groups=self.groups,
        )
        return torch.unflatten(output, 3, clip.shape[3:])

    def _over_space(self, clip: Tensor) -> Tensor:
        """Take the frames of all clips as one batch."""
        output = F.conv2d(
            clip.transpose(1, 2).flatten(0, 1),
            self.weight[:, :, 0],
            self.bias,
            stride=self.stride[1:],
            padding=tuple(int(size) for size in self.padding[1:]),
            dilation=self.dilation[1:],
            groups=self.groups,
        )
        return torch.unflatten(output, 0, (clip.shape[0], clip.shape[2])).transpose(1, 2)
