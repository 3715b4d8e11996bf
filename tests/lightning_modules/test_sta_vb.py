"""StAVB as a method: what it trains, and what it starts from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from lightning_modules import StAVB
from lightning_modules.normalisation import CLIP
from tests.support.cases import TINY_STA
from weights.errors import WeightsError


def build(**options: Any) -> StAVB:
    torch.manual_seed(0)
    sizes = {"num_frames": 2, "image_size": 32}
    return StAVB(partial(torch.optim.Adam, lr=1e-3), **(TINY_STA | sizes | options))


def trained(module: StAVB) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def test_the_default_trains_adapters_norm_and_head() -> None:
    with torch.device("meta"):
        module = StAVB(partial(torch.optim.Adam, lr=1e-3))
    # 46,625,794 under the paper's rule, less the last adapter's streams.
    assert trained(module) == 46_625_794 - 2_279_424
    assert sum(p.numel() for p in module.parameters()) == 223_841_282
    assert module.normalisation is CLIP
    assert (module.num_frames, module.image_size) == (8, 224)


def test_the_tower_can_be_trained_and_the_head_alone() -> None:
    whole, module, head = build(train_tower=True), build(), build(freeze_backbone=True)
    head.freeze_parts()
    assert trained(whole) > trained(module) > trained(head) == 2 * 32 + 2


def test_decay_can_spare_norms_and_embeddings() -> None:
    (group,) = build().parameter_groups()
    decayed, spared = build(decay_norms=False).parameter_groups()
    assert len(decayed["params"]) + len(spared["params"]) == len(group["params"])
    assert spared["weight_decay"] == 0
    assert "weight_decay" not in decayed
    assert all(p.ndim > 1 for p in decayed["params"])
    assert (1, 2, 32) in {tuple(p.shape) for p in spared["params"]}  # temporal embedding


def test_the_score_is_the_difference_of_both_logits() -> None:
    module = build().eval()
    clip = torch.randn(2, 3, 2, 32, 32)
    output, scores = module(clip), module.network(clip)
    torch.testing.assert_close(output.logit, scores.logits[:, 1] - scores.logits[:, 0])
    assert output.features is not None
    assert output.features.shape == (2, 32)


def test_weights_of_open_clip_go_into_the_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, source = [], build(num_layers=3)
    backbone = source.network.backbone

    class Fetched:
        visual = open_clip.transformer.VisionTransformer(32, 16, 32, layers=3, heads=2, mlp_ratio=4)

    def create(name: str, **options: Any) -> Fetched:
        asked.append((name, options))
        return Fetched()

    monkeypatch.setattr(open_clip, "create_model", create)
    module = build()
    report = module.load_pretrained("openai")
    assert asked == [("ViT-B-32-quickgelu", {"force_image_size": 32, "pretrained": "openai"})]
    assert report.left_out == ("proj", "transformer.resblocks.2")
    assert torch.equal(module.network.backbone.conv1.weight, Fetched.visual.conv1.weight)
    assert not torch.equal(module.network.backbone.conv1.weight, backbone.conv1.weight)


def test_weights_that_cannot_be_had_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(WeightsError, match=r"'openai' of ViT-B-32-quickgelu could not be fetched"):
        build().load_pretrained("openai")
    with pytest.raises(WeightsError, match="open_clip has no weights 'imagenet'"):
        build().load_pretrained("imagenet")
    with pytest.raises(WeightsError, match="There is no weight file"):
        build().load_pretrained(str(tmp_path / "none.pth"))


def test_weights_of_other_colours_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"'laion2b_s32b_b82k' of ViT-L-14 .* take another tag"):
        build(encoder="ViT-L-14").load_pretrained("laion2b_s32b_b82k")


def test_a_checkpoint_of_the_suite_is_loaded_whole(tmp_path: Path) -> None:
    source, module = build(), build()
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "last.ckpt")
    assert module.load_pretrained(str(tmp_path / "last.ckpt")).text == ""
    same = zip(module.parameters(), source.parameters(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in same)
