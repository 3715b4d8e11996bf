"""Published files of HFF, DeepfakeBench's port and the ImageNet Xception."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lightning_modules.backbones.hff import HFFNetwork
from weights.convert import LAYOUTS
from weights.errors import WeightsError
from weights.loading import load_weights, require_constants


def make(**options: Any) -> HFFNetwork:
    return HFFNetwork(16, width=4, **options)


def save(state: dict[str, Tensor], folder: Path) -> Path:
    path = folder / "weights.pth"
    torch.save(state, path)
    return path


def renamed(network: HFFNetwork, layout: str) -> dict[str, Tensor]:
    return {LAYOUTS[layout].official_key(k): v for k, v in network.state_dict().items()}


def assert_same(mine: dict[str, Tensor], other: dict[str, Tensor], keys: set[str]) -> None:
    assert keys
    for key in keys:
        assert torch.equal(mine[key], other[key]), key


def test_official_file(tmp_path: Path) -> None:
    source, network = make(), make()
    dead = {"xception_srm.model.last_linear.1.bias": torch.zeros(2)}
    report = load_weights(network, save(renamed(source, "hff") | dead, tmp_path))
    assert report.text == "left out: xception_srm.model.last_linear.1.bias"
    assert_same(network.state_dict(), source.state_dict(), set(source.state_dict()))


def test_file_of_deepfakebench(tmp_path: Path) -> None:
    source, network = make(fusion="multiply"), make(fusion="multiply")
    names = ("backbone_rgb.adjust_channel.0.weight", "blur.weight", "backbone_srm.last_linear.bias")
    state = renamed(source, "hff_bench") | {name: torch.zeros(2) for name in names}
    assert "backbone_rgb.last_linear.weight" in state
    path = save({f"module.{key}": value for key, value in state.items()}, tmp_path)
    assert load_weights(network, path).left_out == names
    assert_same(network.state_dict(), source.state_dict(), set(source.state_dict()))


@pytest.mark.parametrize("cadene", [False, True])
def test_imagenet_xception_goes_into_both_streams(tmp_path: Path, cadene: bool) -> None:
    source, network = make(), make()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    trunk = source.rgb.state_dict()
    state = {
        key: value[..., 0, 0] if cadene and key.endswith("pointwise.weight") else value
        for key, value in trunk.items()
    } | {"fc.weight": torch.zeros(1000, 256), "fc.bias": torch.zeros(1000)}
    report = load_weights(network, save(state, tmp_path))
    assert report.left_out == ("fc.weight", "fc.bias")
    assert "as initialised: residual, inject1" in report.text
    assert_same(network.rgb.state_dict(), trunk, set(trunk))
    assert_same(network.high.state_dict(), trunk, set(trunk))
    assert_same(network.state_dict(), before, set(report.fresh))
    assert report.text.count("rgb") == 0


def test_files_of_the_hugging_face_hub(tmp_path: Path) -> None:
    source, network = make().rgb.state_dict(), make()
    path = tmp_path / "model.safetensors"
    save_file(source, path)
    assert load_weights(network, path).left_out == ()
    assert_same(network.rgb.state_dict(), source, set(source))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WeightsError, match=r"model\.safetensors cannot be read as weights"):
        load_weights(network, path)
    with pytest.raises(WeightsError, match="There is no weight file"):
        load_weights(network, tmp_path / "none.safetensors")


def test_a_damaged_xception_is_refused(tmp_path: Path) -> None:
    state = make().rgb.state_dict()
    del state["block7.rep.4.pointwise.weight"]
    with pytest.raises(WeightsError, match=r"1 missing: block7\.rep\.4\.pointwise\.weight"):
        load_weights(make(), save(state, tmp_path))


@pytest.mark.parametrize(
    ("layout", "options", "remedy"),
    [
        ("hff", {"fusion": "multiply"}, "set model.init_args.fusion to residual"),
        ("hff_bench", {}, "set model.init_args.fusion to multiply"),
        ("hff", {"head": "angle_linear"}, "set model.init_args.head to linear"),
        ("hff", {"srm_layout": "intended"}, "set model.init_args.srm_layout to official"),
    ],
)
def test_options_that_no_shape_tells_must_be_those_of_the_file(
    tmp_path: Path, layout: str, options: dict[str, str], remedy: str
) -> None:
    path = save(renamed(make(), layout), tmp_path)
    with pytest.raises(WeightsError, match=remedy):
        load_weights(make(**options), path)


def test_filters_laid_out_otherwise_are_refused(tmp_path: Path) -> None:
    source = make(srm_layout="intended")
    with pytest.raises(WeightsError, match=r"inject1\.kernel, which is never trained"):
        load_weights(make(), save(source.state_dict(), tmp_path))
    load_weights(make(srm_layout="intended"), save(source.half().state_dict(), tmp_path))
    # A method keeps its network one level down.
    method = torch.nn.ModuleDict({"network": make()})
    state = {f"network.{key}": value for key, value in source.state_dict().items()}
    with pytest.raises(WeightsError, match=r"network\.inject1\.kernel"):
        require_constants(method, state, "the checkpoint")


def test_another_input_size_is_refused(tmp_path: Path) -> None:
    state = renamed(HFFNetwork(64, width=4), "hff")
    with pytest.raises(WeightsError, match=r"dual_cma0\.linear1\.weight is \(16, 16\), wanted"):
        load_weights(make(), save(state, tmp_path))
    with pytest.raises(WeightsError, match="looks like official hff weights"):
        load_weights(torch.nn.Linear(2, 2), save(state, tmp_path))
