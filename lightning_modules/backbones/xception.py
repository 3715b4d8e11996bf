"""Xception without its classifier, in the parts that two streams exchange between."""

from __future__ import annotations

from torch import Tensor, nn

#: Channels behind each part, in order; everything scales with the first.
WIDTHS = (32, 64, 128, 256, 728, 1024, 1536, 2048)


def widths_of(width: int) -> tuple[int, ...]:
    """Scale `WIDTHS` to `width` channels behind the first layer."""
    return tuple(channels * width // WIDTHS[0] for channels in WIDTHS)


def map_size(image_size: int) -> int:
    """Give height and width of the maps of the middle blocks (4 to 11), in pixels.

    Args:
        image_size: Height and width of the image in pixels.
    """
    size = (image_size - 3) // 2 - 1  # layers 1 and 2: kernels of 3 without padding
    for _ in range(3):
        size = -(-size // 2)
    return size


class XceptionTrunk(nn.Module):
    """All of Xception but pool and classifier; the last norm has no ReLU behind it.

    Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017,
    https://arxiv.org/abs/1610.02357, of timm's blocks: names and shapes are those of the ImageNet
    weights that circulate.

    Args:
        width: Channels behind the first layer (32 officially); everything else scales with it.
    """

    def __init__(self, width: int = WIDTHS[0]) -> None:
        super().__init__()
        # Takes seconds, which no program that needs no such network should pay.
        from timm.models.xception import Block, SeparableConv2d

        one, two, *entry, middle, before, late, last = widths_of(width)
        self.conv1 = nn.Conv2d(3, one, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(one)
        self.conv2 = nn.Conv2d(one, two, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(two)
        self.block1 = Block(two, entry[0], 2, 2, start_with_relu=False)
        self.block2 = Block(entry[0], entry[1], 2, 2)
        self.block3 = Block(entry[1], middle, 2, 2)
        for index in range(4, 12):
            self.add_module(f"block{index}", Block(middle, middle, 3, 1))
        self.block12 = Block(middle, before, 2, 2, grow_first=False)
        self.conv3 = SeparableConv2d(before, late, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(late)
        self.conv4 = SeparableConv2d(late, last, 3, padding=1)
        self.bn4 = nn.BatchNorm2d(last)
        self.relu = nn.ReLU(inplace=True)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # timm's initialiser, for training from scratch
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def first(self, image: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, C1, H / 2, W / 2) by the first layer."""
        out: Tensor = self.relu(self.bn1(self.conv1(image)))
        return out

    def second(self, maps: Tensor) -> Tensor:
        """Map (N, C1, H, W) to (N, C2, H - 2, W - 2) by the second layer."""
        out: Tensor = self.relu(self.bn2(self.conv2(maps)))
        return out

    def blocks(self, maps: Tensor, start: int, stop: int) -> Tensor:
        """Run blocks `start` to `stop`, the last included."""
        for index in range(start, stop + 1):
            maps = self.get_submodule(f"block{index}")(maps)
        return maps

    def last(self, maps: Tensor) -> Tensor:
        """Run block 12 and the last two layers, to (N, C8, H / 2, W / 2)."""
        maps = self.relu(self.bn3(self.conv3(self.block12(maps))))
        out: Tensor = self.bn4(self.conv4(maps))
        return out
