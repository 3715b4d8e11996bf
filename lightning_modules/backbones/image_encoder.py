"""Image encoders of timm and open_clip under one roof, and a linear classifier on one."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

Library = Literal["timm", "open_clip"]


class ImageEncoder(nn.Module):
    """An image network without its classifier.

    Args:
        library: Whose network.
        name: As the library calls it; timm's may end in a tag of weights (`resnet50.a1_in1k`).
        image_size: Height and width of the frames in pixels; networks that are built for one size
            are built for this one.
        **loading: Passed to the library's `create_model`: where pre-trained weights come from.

    Attributes:
        network: Of the library.
        num_features: Length of a frame's features (D).
        mean: Of red, green, blue in 0..1, of the pictures the published weights were trained on.
        std: Standard deviation, likewise.

    Raises:
        ValueError: If the library has no such network, or that cuts frames into patches which do
            not fill one.
    """

    def __init__(self, library: Library, name: str, image_size: int, **loading: Any) -> None:
        super().__init__()
        build = {"timm": _timm, "open_clip": _open_clip}[library]
        self.network, self.num_features, self.mean, self.std = build(name, image_size, loading)
        _check_patches(self.network, name, image_size)

    def forward(self, frames: Tensor) -> Tensor:
        """Map normalised frames (N, 3, H, W) to features (N, D)."""
        features: Tensor | tuple[Tensor, ...] = self.network(frames)
        # Some encoders of open_clip give their tokens as well.
        return features[0] if isinstance(features, tuple) else features


class FrameClassifier(nn.Module):
    """One logit of an encoder's features.

    Args:
        encoder: Gives features of shape (N, D).
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.num_features, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised frames (N, 3, H, W) to logits (N,) and features (N, D)."""
        features = self.encoder(frames)
        return self.head(features).squeeze(1), features


Built = tuple[nn.Module, int, tuple[float, float, float], tuple[float, float, float]]


def _check_patches(network: nn.Module, name: str, image_size: int) -> None:
    # timm keeps the size with the layer that cuts, and fails in the first forward pass; open_clip
    # keeps it with the network, and drops what is left over without a word.
    owner = getattr(network, "patch_embed", network)
    size = getattr(owner, "patch_size", None)
    patch = size[0] if isinstance(size, tuple) else size
    if isinstance(patch, int) and image_size % patch:
        raise ValueError(
            f"{name} cuts frames into patches of {patch} pixels: "
            f"image_size {image_size} is no multiple of that"
        )


def _timm(name: str, image_size: int, loading: dict[str, Any]) -> Built:
    import timm

    if not timm.is_model(name):
        near = timm.list_models(f"*{name.partition('.')[0]}*")[:3]
        hint = f"; there are {', '.join(near)}, ..." if near else ""
        raise ValueError(f"timm has no model '{name}'{hint}")
    published = timm.get_pretrained_cfg(name)
    # Transformers have a position for each patch; convolutions take any size, and no such argument.
    if published is not None and published.fixed_input_size:
        loading = {**loading, "img_size": image_size}
    network: Any = timm.create_model(name, num_classes=0, **loading)
    cfg = network.pretrained_cfg
    return network, int(network.head_hidden_size), tuple(cfg["mean"]), tuple(cfg["std"])


def _open_clip(name: str, image_size: int, loading: dict[str, Any]) -> Built:
    import open_clip

    about = open_clip.get_model_config(name)
    if about is None:
        raise ValueError(f"open_clip has no model '{name}'; open_clip.list_models() lists them")
    visual = open_clip.create_model(name, force_image_size=image_size, **loading).visual
    return visual, int(about["embed_dim"]), tuple(visual.image_mean), tuple(visual.image_std)
