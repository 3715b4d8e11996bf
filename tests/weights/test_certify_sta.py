"""The certificate of StA: small networks in every run, and what it finds wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from weights import certify, certify_sta
from weights.convert import LAYOUTS
from weights.golden_numbers import read_golden

GOLDEN = read_golden("sta.json")
CONFIGS = GOLDEN["configs"]


@pytest.mark.parametrize(("name", "count"), [("tiny", 2 * 131), ("geom", 2 * 55)])
def test_modules_logits_and_gradients_pass(name: str, count: int) -> None:
    findings = certify_sta.certify_configuration(name, CONFIGS[name])
    assert len(findings) == count
    assert [(f.row, f.column, f.difference) for f in findings if not f.passed] == []
    gradients = [f for f in findings if f.row == "106 gradient norms"]
    assert max(finding.difference for finding in gradients) < 1e-4


def test_sizes_and_keys_pass() -> None:
    findings = [f for name in CONFIGS for f in certify_sta.size(name, CONFIGS[name])]
    assert [finding.row for finding in findings if not finding.passed] == []
    rows = {finding.row for finding in findings}
    assert {"223,841,282 parameters", "46,625,794 of them trained"} < rows
    assert {"2110 keys and shapes", "310 keys and shapes"} < rows


def test_a_small_fault_is_found_where_it_is() -> None:
    network = certify_sta.build(CONFIGS["tiny"]).double()
    network.get_submodule("backbone.blocks.1.adapter.spatial.2.bn2").eps = 2e-3  # type: ignore[assignment]
    findings = certify_sta.evaluate("tiny", network, CONFIGS["tiny"])
    failed = [finding.row for finding in findings if not finding.passed]
    place = "backbone.transformer.resblocks.1.Adapter."
    assert failed[0] == f"{place}s_conv3.bn2"
    assert f"{place}cross_attention[out1]" in failed
    # The class token passes the last adapter's streams by.
    assert not any("logit" in row or "head" in row or "t_conv" in row for row in failed)


def test_clips_of_a_batch_that_mix_are_found() -> None:
    """The released attention of two clips in a batch is not that of each alone."""
    mixed = CONFIGS["tiny"]["logits_official_when_both_clips_share_a_batch_float64"]
    golden = CONFIGS["tiny"] | {"logits_float64": mixed}
    findings = certify_sta.evaluate("tiny", certify_sta.build(golden), golden)
    used = next(finding for finding in findings if "as used" in finding.row)
    assert not used.passed


def test_clips_are_scored_one_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lightning_modules.backbones.sta import build_network

    torch.manual_seed(0)
    network = build_network(3, 16, 8, 128, num_layers=2, num_heads=2).eval()
    torch.nn.init.normal_(network.backbone.temporal_embedding)
    sources = LAYOUTS["sta"].sources(network.state_dict())
    state = {f"module.{key}": network.state_dict()[own] for own, key in sources.items()}
    torch.save(state, tmp_path / "sta.pth")
    clips = np.random.default_rng(0).normal(size=(2, 3, 3, 16, 16)).astype(np.float32)
    np.save(tmp_path / "clips.npy", clips)
    arguments = ["--weights", str(tmp_path / "sta.pth"), "--clips", str(tmp_path / "clips.npy")]
    assert certify.main(["sta_vb", *arguments]) == 0
    with torch.no_grad():
        logits = network(torch.from_numpy(clips)).logits
    printed = [float(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == pytest.approx((logits[:, 1] - logits[:, 0]).tolist(), rel=1e-4, abs=1e-5)
    np.save(tmp_path / "clips.npy", clips[:, :, :2])
    assert certify.main(["sta", *arguments]) == 2
    assert "backbone.temporal_embedding is (1, 3, 128), wanted (1, 2, 128)" in (
        capsys.readouterr().err
    )
