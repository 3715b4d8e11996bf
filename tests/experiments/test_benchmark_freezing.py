"""Frozen weights cost no gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from callbacks import split_by_axis
from experiments.benchmark import main
from lightning_modules.backbones.i3d import I3DNetwork


def test_the_report_compares_phases_in_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["freezing", "--frames", "4", "--size", "32", "--rounds", "1"]) == 0
    heading, _, *lines = capsys.readouterr().out.splitlines()
    assert "clips 1 x 3 x 4 x 32 x 32" in heading
    found = {line[:16].strip(): [float(word) for word in line[16:].split()] for line in lines}
    assert list(found) == ["nothing", "spatial", "temporal", "by turns 20:1"]
    assert all(seconds > 0 and ratio > 0 for seconds, ratio in found.values())


def test_a_step_with_frozen_weights_has_fewer_operations() -> None:
    network, clip = I3DNetwork(4, 32, width=8), torch.zeros(2, 3, 4, 32, 32)
    groups = split_by_axis(network)

    def operations(frozen: dict[str, nn.Parameter]) -> int:
        network.requires_grad_(True)
        for parameter in frozen.values():
            parameter.requires_grad_(False)
        with FlopCounterMode(display=False) as counter:
            torch.autograd.backward(network(clip)[0].sum())
        return int(counter.get_total_flops())

    whole = operations({})
    spatial, temporal = (operations(dict(group)) for group in (groups.spatial, groups.temporal))
    # Of a small network at a small size, which mostly does other things.
    assert spatial < 0.97 * whole
    assert temporal < 0.97 * whole
