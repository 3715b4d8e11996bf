"""Visual towers of open_clip without their text side: built small, or cut to their first blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

#: What of a tower can be set otherwise than its name says (fields of open_clip's `vision_cfg`).
OPTIONS = ("width", "head_width", "patch_size", "mlp_ratio")

#: Fields of `vision_cfg` that a plain transformer has, besides `OPTIONS`.
_PLAIN = {"layers", "image_size", "no_ln_pre"}


def build_tower(
    name: str, image_size: int, num_layers: int | None = None, **options: float
) -> VisionTransformer:
    """Build a vision transformer with random weights, as open_clip's model of this name has it.

    Args:
        name: Of the model in open_clip; those with `-quickgelu` have that activation.
        image_size: Height and width of a frame in pixels.
        num_layers: Blocks that are kept, counted from the first; None for all.
        **options: Fields of `vision_cfg` that replace the model's, see `OPTIONS`.

    Raises:
        ValueError: If there is no such model, its tower is no plain vision transformer with a
            class token, or the sizes do not go together.
    """
    import open_clip

    about = open_clip.get_model_config(name)
    if about is None:
        raise ValueError(f"open_clip has no model '{name}'; open_clip.list_models() lists them")
    vision: dict[str, Any] = {"layers": 12, "mlp_ratio": 4.0, "head_width": 64, "patch_size": 16}
    vision |= {key: value for key, value in about["vision_cfg"].items() if value}
    strange = sorted(vision.keys() - _PLAIN - set(OPTIONS))
    if strange or not isinstance(vision["layers"], int):
        raise ValueError(
            f"the image tower of {name} is no plain vision transformer "
            f"({', '.join(strange) or 'it has stages of convolutions'}); take another encoder"
        )
    wrong = sorted(options.keys() - set(OPTIONS))
    if wrong:
        raise ValueError(f"a tower has no option {wrong[0]}; it has {', '.join(OPTIONS)}")
    vision |= options
    zero = [key for key in OPTIONS if vision[key] <= 0 or (key != "mlp_ratio" and vision[key] % 1)]
    if zero:
        raise ValueError(f"a tower's {zero[0]} cannot be {vision[zero[0]]:g}")
    depth = vision["layers"] if num_layers is None else num_layers
    if not 1 <= depth <= vision["layers"]:
        raise ValueError(f"{name} has {vision['layers']} blocks; num_layers cannot be {depth}")
    return make_tower(
        image_size=image_size,
        patch_size=int(vision["patch_size"]),
        width=int(vision["width"]),
        num_layers=depth,
        num_heads=int(vision["width"]) // int(vision["head_width"]),
        mlp_ratio=float(vision["mlp_ratio"]),
        quick_gelu=bool(about.get("quick_gelu", False)),
        no_ln_pre=bool(vision.get("no_ln_pre", False)),
    )


def make_tower(
    *,
    image_size: int,
    patch_size: int,
    width: int,
    num_layers: int,
    num_heads: int,
    mlp_ratio: float = 4.0,
    quick_gelu: bool = True,
    no_ln_pre: bool = False,
) -> VisionTransformer:
    """Build a vision transformer of open_clip from its sizes, without the last projection.

    Args:
        image_size: Height and width of a frame in pixels.
        patch_size: Height and width of a patch in pixels.
        width: Channels of a token (C).
        num_layers: Blocks.
        num_heads: Of the attention.
        mlp_ratio: Hidden channels of an MLP, in units of C.
        quick_gelu: Whether the activation is x * sigmoid(1.702 x), OpenAI's, or the exact GELU.
        no_ln_pre: Whether there is no norm before the first block.

    Raises:
        ValueError: If frames are no whole number of patches, or channels do not go into heads.
    """
    from open_clip.transformer import QuickGELU, VisionTransformer

    if image_size % patch_size or image_size < patch_size:
        raise ValueError(
            f"frames of {image_size} pixels are no whole number of patches of {patch_size}; "
            "set image_size to a multiple"
        )
    if num_heads < 1 or width % num_heads:
        raise ValueError(f"{width} channels do not go into {num_heads} heads of equal width")
    tower = VisionTransformer(
        image_size=image_size,
        patch_size=patch_size,
        width=width,
        layers=num_layers,
        heads=num_heads,
        mlp_ratio=mlp_ratio,
        no_ln_pre=no_ln_pre,
        act_layer=QuickGELU if quick_gelu else nn.GELU,
    )
    tower.proj = None
    return tower


def blocks_of(tower: VisionTransformer) -> list[ResidualAttentionBlock]:
    """Return the blocks of a tower, first to last."""
    return list(tower.transformer.resblocks)
