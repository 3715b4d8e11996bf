"""The contract every method keeps; a method is one row in `tests/support/cases.py`."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.losses import binary_cross_entropy
from tests.support.cases import CASES, NETWORK_CASES, MethodCase

each_method = pytest.mark.parametrize("case", NETWORK_CASES, ids=lambda c: c.name)


@each_method
def test_logit_has_one_finite_number_a_clip(case: MethodCase) -> None:
    module = case.build().eval()
    with torch.no_grad():
        for batch in (1, 3):
            output = module(case.clip(batch))
            assert output.logit.shape == (batch,)
            assert output.logit.isfinite().all()
            assert output.features is None or output.features.shape[0] == batch


@each_method
def test_a_clip_scores_the_same_whatever_its_batch_mates(case: MethodCase) -> None:
    module = case.build().eval()
    clip = case.clip(4)
    with torch.no_grad():
        together = module(clip).logit
        alone = torch.cat([module(one).logit for one in clip.split(1)])
        backwards = module(clip.flip(0)).logit.flip(0)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together, backwards, rtol=1e-4, atol=1e-5)


@each_method
def test_gradients_reach_every_trained_parameter(case: MethodCase) -> None:
    module = case.build().train()
    # A last norm of scale zero hides what lies before it at the very first step.
    for parameter in module.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.02)
    clip = case.clip(2)
    binary_cross_entropy(module(clip).logit, torch.tensor([0.0, 1.0])).backward()
    missing = [
        name
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    # Position rows beyond the clip's tokens are not used, so only whole tensors count.
    assert not missing


@each_method
def test_freezing_leaves_the_head_alone_to_train(case: MethodCase) -> None:
    module = case.build(freeze_backbone=True)
    backbone = module.backbone_modules()
    assert backbone
    module.freeze_parts()
    # A fit does not call train(), but an evaluation in it does.
    for _ in range(2):
        assert not any(m.training for part in backbone for m in part.modules())
        module.train()
    assert any(p.requires_grad for p in module.parameters())
    groups = module.parameter_groups()
    frozen = {id(p) for part in backbone for p in part.parameters()}
    assert not any(id(p) in frozen for group in groups for p in group["params"])


def test_pictures_take_the_type_of_the_weights() -> None:
    module = CASES["xception"].build(encoder="test_resnet").double().eval()
    raw = torch.zeros(1, 4, 32, 32, 3, dtype=torch.uint8)
    assert module.normalise(raw).dtype == torch.float64
    assert module(module.normalise(raw)).logit.dtype == torch.float64
