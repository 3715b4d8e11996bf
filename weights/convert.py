"""Official layouts of the methods' weights: which keys they have, and what we call them.

Pure: names and shapes only, no file is opened. A method with published weights adds its
`Layout` to `LAYOUTS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from weights.clip_layouts import (
    CLIP_FRESH,
    CLIP_RENAMES,
    STA_RENAMES,
    from_hugging_face,
    sta_structure,
    visual_side,
)

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
        fresh: Patterns of keys of ours that such files do not have; they stay as initialised.
        options: Options the weights were trained with and that no shape tells, by name; the
            network's own must be the same.
        adapt: Brings the tensors of a file into the layout's keys and shapes.
        repeated: Official keys of a part that is repeated, whose number is the pattern's group; a
            file may have more of them than the network, and the first ones are taken.
    """

    method: str
    renames: tuple[Rename, ...]
    structure: Callable[[Shapes], dict[str, Any]]
    dead_prefixes: tuple[str, ...] = ()
    other_task: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    adapt: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    repeated: str | None = None

    def sources(self, keys: Iterable[str]) -> dict[str, str]:
        """Find the official key behind each key of ours, except those that stay fresh.

        Args:
            keys: Of our network.

        Raises:
            KeyError: If no rule knows a key.
        """
        return {
            key: self.official_key(key)
            for key in keys
            if not any(re.fullmatch(pattern, key) for pattern in self.fresh)
        }

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
    "hff": r"xception_(rgb|srm)\..+",
    "hff_bench": r"backbone_(rgb|srm)\..+",
    "sta": r"backbone\.transformer\.resblocks\.\d+\.Adapter\..+",
    "clip": r"(visual\.)?transformer\.resblocks\.0\.attn\.in_proj_weight",
    "clip_hugging_face": r"(vision_model\.)?encoder\.layers\.0\.self_attn\.q_proj\.weight",
    "xception": r"block12\.rep\.4\.pointwise\.weight",
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


# HFF: official repository at commit bcdb903; DeepfakeBench's SRM detector at commit 8a4a7bf; the
# ImageNet Xception (cadene's file and timm's), from which both streams start.

_CROSS = r"cross(\d)\."

HFF_RENAMES: tuple[Rename, ...] = (
    (r"rgb\.(.+)", r"xception_rgb.model.\1"),
    (r"high\.(.+)", r"xception_srm.model.\1"),
    (r"classifier\.(.+)", r"xception_rgb.model.last_linear.1.\1"),
    (r"residual\.kernel", "srm_conv0.kernel"),
    (r"inject(\d)\.kernel", r"srm_conv\1.kernel"),
    (r"inject(\d)\.mix\.(.+)", r"srm_conv\1.out_conv.\2"),
    (r"guide\.(srm|conv)\.(.+)", r"srm_sa.\1.\2"),
    (r"guide\.attention\.(.+)", r"srm_sa.pa.\1"),
    (r"guided\.(.+)", r"srm_sa_post.\1"),
    (_CROSS + r"(gamma\d|linear\d\..+)", r"dual_cma\1.\2"),
    (_CROSS + r"key_shared\.(.+)", r"dual_cma\1.key_conv_share.\2"),
    (_CROSS + r"(key|value)(\d)\.(.+)", r"dual_cma\1.\2_conv\3.\4"),
    (r"fusion\.mix\.(.+)", r"fusion.convblk.\1"),
    (r"fusion\.attention\.mlp\.(.+)", r"fusion.ca.sharedMLP.\1"),
)


def _bench_key(official: str) -> str:
    """Translate an official key of HFF to DeepfakeBench's."""
    for ours, theirs in (("xception_", "backbone_"), (".model.", "."), ("linear.1.", "linear.")):
        official = official.replace(ours, theirs)
    return official


HFF_BENCH_RENAMES = tuple((ours, _bench_key(key)) for ours, key in HFF_RENAMES)


def _hff_structure(shapes: Shapes) -> dict[str, Any]:
    """Read the width off an official HFF state dict; three witnesses, as for FTCN+TT."""
    widths = [32] + [
        shapes[key][0] // factor
        for key, factor in (
            ("srm_conv1.out_conv.1.weight", 1),
            ("srm_sa_post.0.weight", 2),
            ("fusion.convblk.1.weight", 64),
        )
        if shapes.get(key)
    ]
    return {"width": max(widths, key=widths.count)}


def _unsqueeze_pointwise(state: Mapping[str, Any]) -> dict[str, Any]:
    """Give the 1 x 1 kernels of cadene's file, which are matrices, their two axes of space."""
    return {
        key: value[..., None, None]
        if key.endswith("pointwise.weight") and value.ndim == 2
        else value
        for key, value in state.items()
    }


def _clip_layout(method: str, adapt: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Layout:
    return Layout(
        method=method,
        renames=CLIP_RENAMES,
        structure=lambda shapes: {},
        # The projection to what pictures and texts share; a counter of old Hugging Face files.
        dead_prefixes=("proj", "embeddings.position_ids"),
        fresh=CLIP_FRESH,
        adapt=adapt,
        repeated=r"transformer\.resblocks\.(\d+)\..+",
    )


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
    "hff": Layout(
        method="hff",
        renames=HFF_RENAMES,
        structure=_hff_structure,
        dead_prefixes=("xception_srm.model.last_linear.",),
        options={"srm_layout": "official", "fusion": "residual", "head": "linear"},
    ),
    "hff_bench": Layout(
        method="hff_bench",
        renames=HFF_BENCH_RENAMES,
        structure=lambda shapes: {**_hff_structure(shapes), "fusion": "multiply"},
        dead_prefixes=(
            "backbone_srm.last_linear.",
            "backbone_rgb.adjust_channel.",
            "backbone_srm.adjust_channel.",
            "blur.weight",
        ),
        options={"srm_layout": "official", "fusion": "multiply", "head": "linear"},
    ),
    "xception": Layout(
        method="xception",
        renames=((r"(?:rgb|high)\.(.+)", r"\1"),),
        structure=lambda shapes: {"width": shapes.get("conv1.weight", (32,))[0]},
        dead_prefixes=("fc.", "last_linear."),
        fresh=(r"(residual|inject\d|guided?|cross\d|fusion|classifier)\..+",),
        adapt=_unsqueeze_pointwise,
    ),
    "sta": Layout(method="sta", renames=STA_RENAMES, structure=sta_structure),
    "clip": _clip_layout("clip", visual_side),
    "clip_hugging_face": _clip_layout("clip_hugging_face", from_hugging_face),
}
