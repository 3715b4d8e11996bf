"""HFF as a method: heads, losses, scores, and what training starts from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.nn import functional

from lightning_modules import HFF
from lightning_modules.losses import am_softmax, margin_cross_entropy
from weights.errors import WeightsError

if TYPE_CHECKING:
    from datamodules.schema import ClipBatch

LABEL = torch.tensor([0.0, 1.0])


def build(**options: Any) -> HFF:
    torch.manual_seed(0)
    return HFF(
        partial(torch.optim.Adam, lr=1e-3), num_frames=3, image_size=16, width=4, **options
    ).eval()


def batch() -> ClipBatch:
    clip = torch.randn(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    index = torch.arange(2)
    return {"clip": clip, "label": LABEL, "video_index": index, "clip_index": index}


def test_cosines_are_scored_with_their_scale_and_trained_with_a_margin() -> None:
    module = build()
    output = module(batch()["clip"])
    cosines = output.extras["logits"]
    assert cosines.abs().max() <= 1
    assert output.frame_logit is not None
    difference = 30 * (cosines[:, 1] - cosines[:, 0])
    torch.testing.assert_close(output.frame_logit.flatten(), difference)
    (loss,) = module.losses(output, batch()).values()
    # Every frame carries the label of its clip, frames of a clip in a row.
    expected = am_softmax(cosines, torch.tensor([0, 0, 0, 1, 1, 1]), margin=0.45, scale=30)
    torch.testing.assert_close(loss, expected)


def test_losses_of_the_linear_head() -> None:
    label = torch.tensor([0, 0, 0, 1, 1, 1])
    for name in ("bench", "cross_entropy"):
        module = build(loss=name, head="linear")
        output = module(batch()["clip"])
        logits = output.extras["logits"]
        assert output.frame_logit is not None
        torch.testing.assert_close(output.frame_logit.flatten(), logits[:, 1] - logits[:, 0])
        expected = {
            "bench": margin_cross_entropy(logits, label, margin=0.45, scale=30),
            "cross_entropy": functional.cross_entropy(logits, label),
        }
        torch.testing.assert_close(module.losses(output, batch()), {name: expected[name]})


def test_options_of_the_loss_reach_it() -> None:
    losses = [
        build(**options).losses(build()(batch()["clip"]), batch())["am_softmax"].item()
        for options in ({}, {"gamma": 2.0}, {"margin_type": "arc"}, {"hard_factor": 1.5})
    ]
    assert len(set(losses)) == 4


@pytest.mark.parametrize(
    ("option", "value"), [("scale", 0.0), ("margin", -0.1), ("gamma", -1.0), ("hard_factor", 0.5)]
)
def test_numbers_that_mean_nothing_are_refused(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"hard_factor at least 1; got .*{option} {value}"):
        build(**{option: value})


def test_head_and_loss_must_belong_together() -> None:
    with pytest.raises(ValueError, match="loss am_softmax belongs to head angle_linear"):
        build(head="linear")
    with pytest.raises(ValueError, match="loss bench belongs to head linear"):
        build(loss="bench")
    with pytest.raises(ValueError, match="There is no loss 'bce'"):
        build(loss="bce")


def test_all_but_the_head_is_the_backbone() -> None:
    module = build()
    frozen = sum(w.numel() for part in module.backbone_modules() for w in part.parameters())
    head = module.network.classifier.weight.numel()
    assert head == 2 * 256
    assert frozen + head == sum(w.numel() for w in module.parameters())


def test_imagenet_weights_go_into_both_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    asked = []

    def create(name: str, **options: Any) -> torch.nn.Module:
        asked.append((name, options))
        return build().network.rgb

    monkeypatch.setattr(timm, "create_model", create)
    module = build(weights="imagenet")
    with torch.no_grad():
        module.network.rgb.conv1.weight.zero_()
    report = module.load_pretrained("imagenet")
    assert asked == [("legacy_xception", {"num_classes": 0, "pretrained": True})]
    assert report.left_out == ()
    rgb, high = module.network.rgb.state_dict(), module.network.high.state_dict()
    assert rgb["conv1.weight"].any()
    assert all(torch.equal(rgb[key], high[key]) for key in rgb)


def test_imagenet_weights_that_cannot_be_fetched_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError, match=r"could not be fetched \(no route\)"):
        build().load_pretrained("imagenet")
    with pytest.raises(WeightsError, match="There is no weight file nowhere"):
        build().load_pretrained("nowhere")


def test_a_checkpoint_with_other_filters_is_refused(tmp_path: Path) -> None:
    checkpoint = {"method": "HFF", "state_dict": build(srm_layout="intended").state_dict()}
    build(srm_layout="intended").on_load_checkpoint(checkpoint)
    with pytest.raises(WeightsError, match=r"the checkpoint: network\.inject1\.kernel"):
        build().on_load_checkpoint(checkpoint)


@pytest.mark.parametrize("training", [True, False])
def test_a_network_of_half_precision_scores_frames(training: bool) -> None:
    hff = build().bfloat16().train(training)
    with torch.inference_mode(not training):
        assert hff.score_frames(torch.randn(2, 3, 16, 16).bfloat16()).logit.isfinite().all()
