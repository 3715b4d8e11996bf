"""The certificate of HFF finds what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from weights import certify, certify_hff, golden_calls
from weights.convert import LAYOUTS
from weights.golden_numbers import read_golden

GOLDEN = read_golden("hff_two_stream.json")


def test_size_losses_head_and_filters_pass() -> None:
    findings = [*certify_hff._size(GOLDEN), *certify_hff._parts(GOLDEN)]
    assert len(findings) == 12
    assert [finding.row for finding in findings if not finding.passed] == []
    assert "53,250,128 parameters: 53,238,380, 7,650 fixed, 4,098 never used" in findings[0].row


def test_every_module_passes_up_to_a_small_fault() -> None:
    network = certify_hff.build(torch.float32, GOLDEN)
    network.get_submodule("high.bn4").eps = 2e-3  # type: ignore[assignment]
    findings = certify_hff.evaluate(network, GOLDEN)
    assert len(findings) == 155
    passed = [finding.row for finding in findings if finding.passed]
    failed = [finding.row for finding in findings if not finding.passed]
    assert failed[0] == "xception_srm.model.bn4"
    assert {"fusion", "logit (layer by layer)", "logit (as used)"} < set(failed)
    assert len(failed) == 17  # of the module itself on
    assert "148 calls in the official order" in passed


def test_names_of_golden_rows_are_read() -> None:
    place = golden_calls.find_place("dual_cma0.softmax#call2", certify_hff.MODULES)
    assert place == ("cross0.softmax", 2, None)
    assert golden_calls.find_place("dual_cma1[out1]", certify_hff.MODULES) == ("cross1", 1, 1)
    with pytest.raises(KeyError, match="srm_conv9x"):
        golden_calls.find_place("srm_conv9x", certify_hff.MODULES)


def test_frames_are_scored_one_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lightning_modules.backbones.hff import HFFNetwork

    torch.manual_seed(0)
    network = HFFNetwork(32, width=4, fusion="multiply").eval()
    layout = LAYOUTS["hff_bench"]
    state = {layout.official_key(key): value for key, value in network.state_dict().items()}
    torch.save(state, tmp_path / "bench.pth")
    frames = np.random.default_rng(0).uniform(-1, 1, (3, 3, 32, 32)).astype(np.float32)
    np.save(tmp_path / "frames.npy", frames)
    arguments = ["--weights", str(tmp_path / "bench.pth"), "--clips", str(tmp_path / "frames.npy")]
    assert certify.main(["hff", *arguments]) == 0
    with torch.no_grad():
        logits = network(torch.from_numpy(frames)).logits
    printed = [float(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == pytest.approx((logits[:, 1] - logits[:, 0]).tolist(), rel=1e-4, abs=1e-5)
    np.save(tmp_path / "frames.npy", frames[:, None])
    assert certify.main(["hff", *arguments]) == 2
    assert "must hold float clips (N, 3, H, W)" in capsys.readouterr().err
    np.save(tmp_path / "frames.npy", np.zeros((1, 3, 64, 64), np.float32))
    assert certify.main(["hff", *arguments]) == 2
    assert "linear1.weight is (4, 4), wanted (16, 16)" in capsys.readouterr().err
