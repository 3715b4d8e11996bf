"""Official layouts of the methods' weights: which keys they have, and what we call them.

Pure: names and shapes only, no file is opened. A method with published weights adds its
`Layout` to `LAYOUTS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each entry of a state dict."""

Rename = tuple[str, str]
"""A pattern that matches a whole key of ours, and the official key it stands for."""


@dataclass(frozen=True)
class Layout:
    """The official layout of one method's weights.

    Attributes:
        method: The method's name.
        renames: How our keys are called officially; the first pattern that matches decides.
        structure: Reads the network's constructor arguments off the official shapes.
        dead_prefixes: Official keys that an official file may have in spite of not using them.
        other_task: Official keys of the classifier in files that were trained for another task;
            of another shape than ours they are left out, and ours stays as initialised.
    """

    method: str
    renames: tuple[Rename, ...]
    structure: Callable[[Shapes], dict[str, Any]]
    dead_prefixes: tuple[str, ...] = ()
    other_task: tuple[str, ...] = ()

    def official_key(self, key: str) -> str:
        """Translate a key of our network.

        Args:
            key: For example `backbone.stem.conv.weight`.

        Raises:
            KeyError: If no rule knows the key: the network and the table have drifted apart.
        """
        for pattern, official in self.renames:
            match = re.fullmatch(pattern, key)
            if match:
                return match.expand(official)
        raise KeyError(f"No rule translates {key!r} to the official layout of {self.method}.")


#: What tells the official files apart: a key that this method's files have and others have not.
#: (Key lists of the official networks; the methods are asked in this order.)
MARKERS = {
    "ftcn_tt": r"resnet\.head\.time_T\..+",
    "altfreezing": r"resnet\.head\.projection\..+",
    "kinetics_i3d": r"s1\.pathway0_stem\.conv\.weight",
    "hff": r"(xception|backbone)_(rgb|srm)\..+",
    "sta": r"backbone\.transformer\.resblocks\.\d+\.Adapter\..+",
}


def recognise(keys: Mapping[str, Any]) -> str | None:
    """Name the method whose official layout a state dict has, or None.

    Args:
        keys: State dict or shapes by official key, prefixes stripped.
    """
    for method, marker in MARKERS.items():
        if any(re.fullmatch(marker, key) for key in keys):
            return method
    return None


# FTCN with temporal transformer: official repository at commit 853256a.

_RES = r"backbone\.stages\.stage(\d)\.(\d+)\."
_OFFICIAL_RES = r"resnet.s\1.pathway0_res\2."
_HEAD = "resnet.head.time_T."
_LAYER = _HEAD + r"transformer.layers.\1."

#: The official code puts norm and pool into one sequence where it replaced a stride: the norm
#: there is called `.0`. That is the stem, and b and the shortcut of the first block of stage 3
#: and later.
FTCN_TT_RENAMES: tuple[Rename, ...] = (
    (r"backbone\.stem\.conv\.(.+)", r"resnet.s1.pathway0_stem.conv.\1"),
    (r"backbone\.stem\.bn\.(.+)", r"resnet.s1.pathway0_stem.bn.0.\1"),
    (_RES + r"([abc])\.conv\.(.+)", _OFFICIAL_RES + r"branch2.\3.\4"),
    (_RES + r"shortcut\.conv\.(.+)", _OFFICIAL_RES + r"branch1.\3"),
    (
        r"backbone\.stages\.stage([345])\.0\.b\.bn\.(.+)",
        r"resnet.s\1.pathway0_res0.branch2.b_bn.0.\2",
    ),
    (
        r"backbone\.stages\.stage([345])\.0\.shortcut\.bn\.(.+)",
        r"resnet.s\1.pathway0_res0.branch1_bn.0.\2",
    ),
    (_RES + r"([abc])\.bn\.(.+)", _OFFICIAL_RES + r"branch2.\3_bn.\4"),
    (_RES + r"shortcut\.bn\.(.+)", _OFFICIAL_RES + r"branch1_bn.\3"),
    (r"head\.projection\.(.+)", r"resnet.head.fc.\1"),
    (r"head\.class_token", _HEAD + "cls_token"),
    (r"head\.positions", _HEAD + "pos_embedding"),
    (r"head\.layers\.(\d+)\.attention_norm\.(.+)", _LAYER + r"0.fn.norm.\2"),
    (r"head\.layers\.(\d+)\.qkv\.(.+)", _LAYER + r"0.fn.fn.to_qkv.\2"),
    (r"head\.layers\.(\d+)\.attention_out\.(.+)", _LAYER + r"0.fn.fn.to_out.0.\2"),
    (r"head\.layers\.(\d+)\.mlp_norm\.(.+)", _LAYER + r"1.fn.norm.\2"),
    (r"head\.layers\.(\d+)\.mlp_in\.(.+)", _LAYER + r"1.fn.fn.net.0.\2"),
    (r"head\.layers\.(\d+)\.mlp_out\.(.+)", _LAYER + r"1.fn.fn.net.3.\2"),
    (r"head\.norm\.(.+)", _HEAD + r"mlp_head.0.\1"),
    (r"head\.logit\.(.+)", _HEAD + r"mlp_head.1.\1"),
)


def _ftcn_tt_structure(shapes: Shapes) -> dict[str, Any]:
    """Read structure, width, depth and the longest clip off an official FTCN+TT state dict."""
    # Three witnesses, so that one damaged entry is found as such and not taken for the width.
    widths = [64] + [
        shapes[key][-1] // factor
        for key, factor in (
            ("resnet.s1.pathway0_stem.bn.0.weight", 1),
            ("resnet.s2.pathway0_res0.branch1_bn.weight", 4),
            (_HEAD + "cls_token", 16),
        )
        if shapes.get(key)
    ]
    layer = re.compile(re.escape(_HEAD) + r"transformer\.layers\.(\d+)\..+")
    layers = [int(match[1]) for match in map(layer.fullmatch, shapes) if match]
    positions = shapes.get(_HEAD + "pos_embedding", ())
    projected = any(key.startswith("resnet.head.fc.") for key in shapes)
    return {
        "structure": "paper" if projected else "released",
        "width": max(widths, key=widths.count),
        "depth": 1 + max(layers, default=0),
        "max_frames": 2 * (positions[1] - 1) if len(positions) == 3 else 32,
    }


# AltFreezing's I3D: official repository at commit f76b061. Kinetics-I3D is SlowFast's own layout,
# which DeepfakeBench's file has as well: the same keys without the first word.

_KINETICS_RES = r"s\1.pathway0_res\2."

KINETICS_I3D_RENAMES: tuple[Rename, ...] = (
    (r"backbone\.stem\.(conv|bn)\.(.+)", r"s1.pathway0_stem.\1.\2"),
    (_RES + r"([abc])\.conv\.(.+)", _KINETICS_RES + r"branch2.\3.\4"),
    (_RES + r"([abc])\.bn\.(.+)", _KINETICS_RES + r"branch2.\3_bn.\4"),
    (_RES + r"shortcut\.conv\.(.+)", _KINETICS_RES + r"branch1.\3"),
    (_RES + r"shortcut\.bn\.(.+)", _KINETICS_RES + r"branch1_bn.\3"),
    (r"head\.(weight|bias)", r"head.projection.\1"),
)

ALTFREEZING_RENAMES = tuple((ours, "resnet." + key) for ours, key in KINETICS_I3D_RENAMES)


def _i3d_structure(shapes: Shapes) -> dict[str, Any]:
    """Read the width off an official I3D state dict; three witnesses, as for FTCN+TT."""
    widths = [64] + [
        shapes[key][axis] // factor
        for key, axis, factor in (
            ("resnet.s1.pathway0_stem.conv.weight", 0, 1),
            ("resnet.s2.pathway0_res0.branch1_bn.weight", 0, 4),
            ("resnet.head.projection.weight", -1, 32),
        )
        if shapes.get(key)
    ]
    return {"width": max(widths, key=widths.count)}


LAYOUTS = {
    "ftcn_tt": Layout(
        method="ftcn_tt",
        renames=FTCN_TT_RENAMES,
        structure=_ftcn_tt_structure,
        # Parts of the official class that its released configuration replaces by an identity.
        dead_prefixes=("resnet.s5.", "resnet.head.projection."),
    ),
    "altfreezing": Layout(
        method="altfreezing", renames=ALTFREEZING_RENAMES, structure=_i3d_structure
    ),
    "kinetics_i3d": Layout(
        method="kinetics_i3d",
        renames=KINETICS_I3D_RENAMES,
        structure=lambda shapes: _i3d_structure({f"resnet.{k}": v for k, v in shapes.items()}),
        other_task=("head.projection.weight", "head.projection.bias"),
    ),
}
