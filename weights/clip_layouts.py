"""Keys of CLIP's image tower as OpenAI and open_clip, StA and Hugging Face call them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

_TOWER = r"(class_embedding|positional_embedding|conv1\..+|ln_pre\..+|ln_post\..+)"
_BLOCK = r"backbone\.blocks\.(\d+)\."
_PART = r"((?:ln_1|attn|ln_2|mlp)\..+)"
_ADAPTER = r"backbone.transformer.resblocks.\1.Adapter."

#: StA's own layout, released code at commit 1a00b32.
STA_RENAMES = (
    (r"backbone\." + _TOWER, r"backbone.\1"),
    (r"backbone\.temporal_embedding", r"backbone.temporal_embedding"),
    (_BLOCK + _PART, r"backbone.transformer.resblocks.\1.\2"),
    (_BLOCK + r"adapter\.((?:down|up)\..+)", _ADAPTER + r"\2"),
    *(
        (_BLOCK + rf"adapter\.{stream}\.{index}\.(.+)", _ADAPTER + rf"{letter}_conv{index + 1}.\2")
        for stream, letter in (("spatial", "s"), ("temporal", "t"))
        for index in range(3)
    ),
    (_BLOCK + r"adapter\.cross\.(.+)", _ADAPTER + r"cross_attention.\2"),
    (r"head\.(weight|bias)", r"head.fc_cls.\1"),
)

#: OpenAI's layout of the image tower, which open_clip's is too, without `visual.`.
CLIP_RENAMES = (
    (r"backbone\." + _TOWER, r"\1"),
    (_BLOCK + _PART, r"transformer.resblocks.\1.\2"),
)

#: Keys of ours that CLIP has not.
CLIP_FRESH = (
    r"backbone\.temporal_embedding",
    r"backbone\.blocks\.\d+\.adapter\..+",
    r"head\..+",
)

#: Hugging Face's `CLIPVisionModel`, without `vision_model.`, and the same in OpenAI's layout; the
#: parts of its query, key and value stand apart and are joined by `from_hugging_face`.
_HF_LAYER = r"encoder\.layers\.(\d+)\."
_HF_RENAMES = (
    (r"embeddings\.class_embedding", "class_embedding"),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"embeddings\.patch_embedding\.weight", "conv1.weight"),
    (r"pre_layrnorm\.(.+)", r"ln_pre.\1"),  # their spelling
    (r"post_layernorm\.(.+)", r"ln_post.\1"),
    (_HF_LAYER + r"layer_norm([12])\.(.+)", r"transformer.resblocks.\1.ln_\2.\3"),
    (_HF_LAYER + r"self_attn\.out_proj\.(.+)", r"transformer.resblocks.\1.attn.out_proj.\2"),
    (_HF_LAYER + r"mlp\.fc1\.(.+)", r"transformer.resblocks.\1.mlp.c_fc.\2"),
    (_HF_LAYER + r"mlp\.fc2\.(.+)", r"transformer.resblocks.\1.mlp.c_proj.\2"),
)
_HF_QUERY = _HF_LAYER + r"self_attn\.q_proj\.(weight|bias)"


def visual_side(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the image tower out of a whole CLIP of OpenAI or open_clip.

    Args:
        state: Of both towers, or of the image tower alone.
    """
    return _side(state, "visual.")


def from_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring a `CLIPVisionModel`, or the image side of a `CLIPModel`, into OpenAI's layout.

    Args:
        state: With or without `vision_model.` before each key. A key that no rule knows keeps its
            name.
    """
    state, found = _side(state, "vision_model."), {}
    for key, value in state.items():
        query = re.fullmatch(_HF_QUERY, key)
        if query:
            names = [key.replace("q_proj", f"{part}_proj") for part in "qkv"]
            if all(name in state for name in names):
                joined = torch.cat([state[name] for name in names])
                found[f"transformer.resblocks.{query[1]}.attn.in_proj_{query[2]}"] = joined
        elif not re.fullmatch(_HF_QUERY.replace("q_proj", "[kv]_proj"), key):
            found[_hugging_face_key(key)] = value
    return found


def _side(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take the keys with a prefix, if there are any, and all of them if not."""
    side = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return side or dict(state)


def _hugging_face_key(key: str) -> str:
    for theirs, name in _HF_RENAMES:
        match = re.fullmatch(theirs, key)
        if match:
            return match.expand(name)
    return key


def sta_structure(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Read the sizes of the network off an official StA state dict.

    Heads have 64 channels, as in all of OpenAI's towers: no shape tells.
    """
    block = re.compile(r"backbone\.transformer\.resblocks\.(\d+)\..+")
    blocks = [int(match[1]) for match in map(block.fullmatch, shapes) if match]
    # Three witnesses, so that one damaged entry is found as such and not taken for the width.
    keys = ("backbone.class_embedding", "backbone.ln_pre.weight", "backbone.ln_post.weight")
    widths = [shapes[key][-1] for key in keys if shapes.get(key)] or [1024]
    width = max(widths, key=widths.count)
    return {
        "patch_size": shapes.get("backbone.conv1.weight", (14,))[-1],
        "width": width,
        "num_layers": 1 + max(blocks, default=0),
        "num_heads": max(1, width // 64),
    }
