"""One row a method: the tests of `tests/lightning_modules/test_methods.py` run over these rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from lightning_modules import FTCN, HFF, I3D, ForgeryModule, FrameAverage, StAVB


@dataclass(frozen=True)
class MethodCase:
    """A method as the tests build it.

    Attributes:
        name: The experiment's name; YAML, test id and W&B group share it.
        method: Its class.
        tiny: Arguments that make it small.
        num_frames: Frames in a clip (T).
        image_size: Height and width in pixels.
    """

    name: str
    method: type[ForgeryModule]
    tiny: dict[str, Any] = field(default_factory=dict)
    num_frames: int = 4
    image_size: int = 32

    def build(self, **arguments: Any) -> ForgeryModule:
        """Build the small method, the same weights each time."""
        torch.manual_seed(0)
        given = {
            "optimizer": partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-4),
            "num_frames": self.num_frames,
            "image_size": self.image_size,
        }
        return self.method(**(given | self.tiny | arguments))

    @property
    def words(self) -> list[str]:
        """What makes it small on the command line of `experiments.run`."""
        return [
            *("--exp", self.name),
            *(f"--model.init_args.{name}={value}" for name, value in self.tiny.items()),
            f"--data.init_args.num_frames={self.num_frames}",
            f"--data.init_args.image_size={self.image_size}",
        ]

    def clip(self, batch: int) -> torch.Tensor:
        """Return random normalised clips, shape (B, 3, T, H, W), float32."""
        size = self.image_size
        generator = torch.Generator().manual_seed(1)
        return torch.randn(batch, 3, self.num_frames, size, size, generator=generator)


#: A tower of four patches a frame.
TINY_STA: dict[str, Any] = {
    "encoder": "ViT-B-32-quickgelu",
    "tower": {"width": 32, "head_width": 16, "patch_size": 16},
    "num_layers": 2,
    "weights": "none",
}

METHOD_CASES = [
    MethodCase("ftcn_tt", FTCN),
    MethodCase("i3d", I3D),
    MethodCase("altfreezing", I3D),
    MethodCase("xception", FrameAverage, {"weights": "none"}),
    MethodCase(
        "efficientnet_b4",
        FrameAverage,
        {"encoder": "tf_efficientnet_b4.aa_in1k", "weights": "none"},
    ),
    MethodCase(
        "clip_linear",
        FrameAverage,
        {"library": "open_clip", "encoder": "ViT-S-32-alt", "weights": "none"},
    ),
    MethodCase("hff", HFF, {"width": 8, "weights": "none"}),
    MethodCase("sta_vb", StAVB, TINY_STA),
    MethodCase("sta_vb_b32", StAVB, TINY_STA),
]

#: The first experiment of each network; another with the same one adds nothing to tests of it.
NETWORK_CASES = list({(c.method, str(c.tiny)): c for c in reversed(METHOD_CASES)}.values())[::-1]

#: By name.
CASES = {case.name: case for case in METHOD_CASES}
