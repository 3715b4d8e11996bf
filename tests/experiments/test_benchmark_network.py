"""The benchmark compares the same numbers, computed in two ways."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from experiments.benchmark import main
from experiments.benchmarks import network as benchmark
from experiments.benchmarks.network import Job, Measurement, Setting
from experiments.benchmarks.released_attention import ExplicitAttention
from lightning_modules.backbones.sta_adapter import Attention
from weights.golden_numbers import read_golden

SETTING = Setting(method="ftcn_tt", frames=4, size=32, batch=1, threads=1, repeats=1, device="cpu")


@pytest.mark.parametrize("method", ["ftcn_tt", "i3d"])
def test_the_reference_has_plain_layers_and_the_same_weights(method: str) -> None:
    setting = replace(SETTING, method=method)
    released, ours = (benchmark.build(setting, name) for name in ("released", "ours"))
    kinds = {type(module) for module in released.modules() if isinstance(module, nn.Conv3d)}
    assert kinds == {nn.Conv3d}
    assert nn.Conv3d not in {type(module) for module in ours.modules()}
    assert not released.backbone.fused
    assert ours.backbone.fused
    for mine, other in zip(released.parameters(), ours.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_the_reference_of_hff_runs_its_modules_one_by_one() -> None:
    setting = replace(SETTING, method="hff", batch=2)
    released, ours = (benchmark.build(setting, name) for name in ("released", "ours"))
    assert not released.fused
    assert ours.fused
    outcomes = [
        benchmark.measure(setting, name, "forward").outcome for name in ("released", "ours")
    ]
    assert outcomes[0] == pytest.approx(outcomes[1], rel=1e-3)
    # The logit is one of the image, not of the last layer's bias alone.
    bias = ours.classifier.bias
    assert abs(outcomes[0] - (bias[1] - bias[0]).item()) > 0.01


@pytest.mark.parametrize("job", ["forward", "training step"])
@pytest.mark.parametrize(("method", "frames", "size"), [("ftcn_tt", 4, 32), ("i3d", 16, 64)])
def test_both_networks_compute_the_same(method: str, frames: int, size: int, job: Job) -> None:
    # Not smaller: a norm over two values gives +-1 for any of them, and rounding decides which.
    setting = replace(SETTING, method=method, frames=frames, size=size)
    released, ours = (benchmark.measure(setting, name, job) for name in ("released", "ours"))
    assert released.outcome == pytest.approx(ours.outcome, abs=2e-4)
    assert 0 < ours.cpu_s < 60
    assert ours.peak_mib >= ours.resting_mib > 0


@pytest.mark.parametrize(("method", "gflop"), [("ftcn_tt", 133.26), ("i3d", 227.25)])
def test_operations_are_counted_at_the_official_size(method: str, gflop: float) -> None:
    setting = Setting(method, 32, 224, 1, 1, 1, "cpu")
    assert benchmark._gflop(setting) == pytest.approx(gflop, abs=0.01)


def test_operations_of_hff_are_those_of_the_official_network() -> None:
    setting = Setting("hff", 1, 256, 1, 1, 1, "cpu")
    official = read_golden("hff_two_stream.json")["flops_per_image_256"]
    assert benchmark._gflop(setting) == pytest.approx(official / 1e9, rel=1e-6)


def test_operations_of_sta_are_those_of_the_official_network() -> None:
    official = read_golden("sta.json")["configs"]["full"]["flops_per_clip"]
    setting = Setting("sta_vb", 8, 224, 1, 1, 1, "cpu")
    assert benchmark._gflop(setting) == pytest.approx(official / 1e9, rel=1e-3)


def test_attention_as_released_gives_the_same_numbers() -> None:
    torch.manual_seed(0)
    attention = Attention(16, 2)
    query, source = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    expected = attention(query, source)
    benchmark.make_plain(attention, in_place=True)
    assert type(attention) is ExplicitAttention
    torch.testing.assert_close(attention(query, source), expected)


def test_a_report_has_a_line_for_each_job_and_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(_: Setting, network: str, job: Job) -> Measurement:
        slow = 3.0 if network == "released" else 1.0
        return Measurement(slow, 2 * slow, 100 * slow, 50, 0.25)

    monkeypatch.setattr(benchmark, "measure_apart", pretend)
    lines = list(benchmark.benchmark(SETTING, 2, ["forward", "forward bfloat16", "training step"]))
    text = "\n".join(lines)
    assert "input 1 x 3 x 4 x 32 x 32" in text
    assert sum("3.00x" in line for line in lines) == 4
    assert "peak memory, MiB" in text
    assert "0.33" in text
    assert "0.20" in text


def test_a_failing_process_gives_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ftcn_tt", "--frames", "7", "--size", "32"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "7 frames" in error
    assert main(["hff", "--frames", "7"]) == 2
    assert "hff takes images; leave --frames out" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_of_their_own_measure(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--frames", "4", "--size", "32", "--rounds", "1", "--repeats", "1"]
    assert main(["ftcn_tt", *arguments]) == 0
    assert "training step" in capsys.readouterr().out
