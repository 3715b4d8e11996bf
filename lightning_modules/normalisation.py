"""From raw frames to what a network takes: which numbers a network was trained with is its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

#: White in a frame of 8 bits.
_WHITE = 255


class Normalisation(NamedTuple):
    """Mean and standard deviation that frames are brought to, in units of 0..1.

    Attributes:
        mean: Of red, green, blue.
        std: Of red, green, blue.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def apply(self, clip: Tensor) -> Tensor:
        """Turn raw frames into what a network takes.

        Args:
            clip: RGB frames, shape (B, T, H, W, 3), uint8 or float in 0..255.

        Returns:
            Normalised clip, shape (B, 3, T, H, W), float32, on the same device.
        """
        mean = clip.new_tensor([_WHITE * value for value in self.mean], dtype=torch.float32)
        std = clip.new_tensor([_WHITE * value for value in self.std], dtype=torch.float32)
        return ((clip.float() - mean) / std).permute(0, 4, 1, 2, 3).contiguous()


#: Statistics of ImageNet, as torchvision and timm have them; FTCN's official inference code takes
#: 255 times these.
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
#: To [-1, 1]: what the Xception weights of ImageNet expect (timm's `legacy_xception`), and most
#: configurations of DeepfakeBench.
HALF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
#: Statistics of CLIP's training pictures (Radford et al. 2021, official preprocessing code).
CLIP = Normalisation((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
