"""Weight files are read safely and fit strictly, or one line says why not."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.backbones.ftcn import FTCNNetwork
from lightning_modules.backbones.i3d import I3DNetwork
from weights.convert import LAYOUTS
from weights.errors import WeightsError
from weights.loading import LoadReport, load_official, load_weights, read_state_dict
from weights.pretrained import open_clip_options

LAYOUT = LAYOUTS["ftcn_tt"]


def make_network() -> FTCNNetwork:
    return FTCNNetwork(num_frames=8, image_size=32, width=4)


def official_state(network: nn.Module) -> dict[str, Tensor]:
    return {LAYOUT.official_key(key): value for key, value in network.state_dict().items()}


class Method(nn.Module):
    """What a method looks like to the loader."""

    def __init__(self) -> None:
        super().__init__()
        self.network = make_network()


def save(content: Any, folder: Path) -> Path:
    path = folder / "weights.pth"
    torch.save(content, path)
    return path


def assert_same(mine: nn.Module, other: nn.Module) -> None:
    for (key, value), expected in zip(
        mine.state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(value, expected), key


@pytest.mark.parametrize("prefix", ["", "module.", "network.", "module.network."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_official_file_is_loaded_whatever_its_wrapping(
    tmp_path: Path, prefix: str, wrapped: bool
) -> None:
    source, method = make_network(), Method()
    state = {prefix + key: value for key, value in official_state(source).items()}
    load_weights(method, save({"state_dict": state, "epoch": 3} if wrapped else state, tmp_path))
    assert_same(method.network, source)


def test_checkpoint_of_this_suite_is_loaded(tmp_path: Path) -> None:
    source, method = Method(), Method()
    load_weights(method, save({"state_dict": source.state_dict(), "global_step": 9}, tmp_path))
    assert_same(method, source)
    network = make_network()
    load_weights(network, save(source.network.state_dict(), tmp_path))
    assert_same(network, source.network)


def test_one_line_lists_what_is_missing_extra_and_of_another_shape(tmp_path: Path) -> None:
    state = official_state(make_network())
    gone = state.pop("resnet.s4.pathway0_res5.branch2.c.weight")
    state["resnet.s4.pathway0_res6.branch2.c.weight"] = gone
    state["resnet.head.time_T.cls_token"] = torch.zeros(1, 1, 7)
    with pytest.raises(WeightsError) as caught:
        load_weights(Method(), save(state, tmp_path))
    message = str(caught.value)
    assert "\n" not in message
    assert "1 missing: resnet.s4.pathway0_res5.branch2.c.weight" in message
    assert "1 extra: resnet.s4.pathway0_res6.branch2.c.weight" in message
    assert "resnet.head.time_T.cls_token is (1, 1, 7), wanted (1, 1, 64)" in message


def test_a_norm_that_lost_its_zero_is_missing(tmp_path: Path) -> None:
    state = official_state(make_network())
    old = "resnet.s3.pathway0_res0.branch2.b_bn.0.weight"
    state[old.replace(".0.weight", ".weight")] = state.pop(old)
    with pytest.raises(
        WeightsError, match=r"1 missing: .*b_bn\.0\.weight; 1 extra: .*b_bn\.weight"
    ):
        load_weights(Method(), save(state, tmp_path))


def test_nothing_is_loaded_from_a_file_that_does_not_fit(tmp_path: Path) -> None:
    method, before = Method(), Method()
    before.load_state_dict(method.state_dict())
    state = official_state(make_network())
    state.pop("resnet.head.time_T.cls_token")
    with pytest.raises(WeightsError):
        load_weights(method, save(state, tmp_path))
    assert_same(method, before)


def test_entries_that_the_official_network_does_not_use_are_left_out() -> None:
    network, source = make_network(), make_network()
    state = official_state(source)
    dead = {"resnet.s5.pathway0_res0.branch1.weight", "resnet.head.projection.bias"}
    state.update(dict.fromkeys(dead, torch.zeros(1)))
    assert set(load_official(network, state, LAYOUT, "x").left_out) == dead
    assert_same(network, source)


@pytest.mark.parametrize(
    ("key", "method"),
    [
        ("resnet.head.projection.weight", "altfreezing"),
        ("xception_rgb.model.conv1.weight", "hff"),
        ("backbone.transformer.resblocks.0.Adapter.down.weight", "sta"),
    ],
)
def test_weights_of_another_method_are_recognised(tmp_path: Path, key: str, method: str) -> None:
    with pytest.raises(WeightsError, match=f"looks like official {method} weights"):
        load_weights(Method(), save({key: torch.zeros(1)}, tmp_path))


def test_official_weights_do_not_go_into_another_network(tmp_path: Path) -> None:
    path = save(official_state(make_network()), tmp_path)
    with pytest.raises(WeightsError, match="looks like official ftcn_tt weights, which Linear"):
        load_weights(nn.Linear(2, 2), path)


def test_another_structure_is_told_by_name(tmp_path: Path) -> None:
    paper = FTCNNetwork("paper", num_frames=8, image_size=32, width=4)
    with pytest.raises(WeightsError, match=r"extra: .*resnet\.head\.fc"):
        load_weights(Method(), save(official_state(paper), tmp_path))


def i3d_state(network: nn.Module, layout: str, classes: int = 1) -> dict[str, Tensor]:
    """Return the weights of a network by official key, with a classifier of so many classes."""
    state = {LAYOUTS[layout].official_key(k): v for k, v in network.state_dict().items()}
    for key in state:
        if key.endswith(("head.projection.weight", "head.projection.bias")) and classes > 1:
            state[key] = torch.zeros(classes, *state[key].shape[1:])
    return state


def make_i3d() -> I3DNetwork:
    return I3DNetwork(num_frames=8, image_size=32, width=4)


@pytest.mark.parametrize("prefix", ["", "module.", "network.", "module.network."])
def test_altfreezing_weights_fit_wholly(tmp_path: Path, prefix: str) -> None:
    source, network = make_i3d(), make_i3d()
    state = {prefix + key: value for key, value in i3d_state(source, "altfreezing").items()}
    assert load_weights(network, save({"state_dict": state}, tmp_path)) == LoadReport()
    assert_same(network, source)


@pytest.mark.parametrize("wrapping", ["state_dict", "model_state", None])
def test_kinetics_weights_leave_their_classifier_out(tmp_path: Path, wrapping: str | None) -> None:
    source, network = make_i3d(), make_i3d()
    head = {key: value.clone() for key, value in network.head.state_dict().items()}
    state = i3d_state(source, "kinetics_i3d", classes=400)
    report = load_weights(network, save({wrapping: state} if wrapping else state, tmp_path))
    assert report.left_out == ("head.projection.weight", "head.projection.bias")
    assert report.fresh == ("head.weight", "head.bias")
    assert_same(network.backbone, source.backbone)
    for key, value in network.head.state_dict().items():
        assert torch.equal(value, head[key])


def test_a_classifier_that_fits_is_kept(tmp_path: Path) -> None:
    source, network = make_i3d(), make_i3d()
    assert load_weights(network, save(i3d_state(source, "kinetics_i3d"), tmp_path)) == LoadReport()
    assert_same(network, source)


def test_kinetics_weights_are_strict_but_for_the_classifier(tmp_path: Path) -> None:
    state = i3d_state(make_i3d(), "kinetics_i3d", classes=400)
    state["s5.pathway0_res3.branch2.a.weight"] = state.pop("s5.pathway0_res2.branch2.a.weight")
    with pytest.raises(
        WeightsError,
        match=r"kinetics_i3d.*1 missing: s5\.pathway0_res2.*1 extra: s5\.pathway0_res3",
    ):
        load_weights(make_i3d(), save(state, tmp_path))


def test_i3d_and_ftcn_do_not_take_each_others_weights(tmp_path: Path) -> None:
    path = save(i3d_state(make_i3d(), "altfreezing"), tmp_path)
    with pytest.raises(WeightsError, match="official altfreezing weights, which FTCNNetwork"):
        load_weights(make_network(), path)
    path = save(official_state(make_network()), tmp_path)
    with pytest.raises(WeightsError, match="official ftcn_tt weights, which I3DNetwork"):
        load_weights(make_i3d(), path)


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("/tmp/face-forgery-suite-was-here"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a state dict"),
        ({"a": 1}, "holds no tensors"),
        ({"a": Evil()}, "more than tensors"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, content: Any, message: str) -> None:
    path = save(content, tmp_path)
    with pytest.raises(WeightsError, match=message):
        read_state_dict(path)
    assert not Path("/tmp/face-forgery-suite-was-here").exists()


def test_files_that_are_no_files_of_torch(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(WeightsError, match="There is no weight file"):
        read_state_dict(path)
    for content in (b"not a checkpoint", b"hello, this is text", b"", b"<html>", b"PK"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"weights\.pth"):
            read_state_dict(path)
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(WeightsError, match="cannot be read"):
        read_state_dict(path)


def test_pickles_of_others_are_refused_without_a_word_of_torch(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Evil(), protocol=4))
    with pytest.raises(WeightsError, match="more than tensors"):
        read_state_dict(path)
    assert not Path("/tmp/face-forgery-suite-was-here").exists()


def test_programs_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "ViT-L-14.pt"
    with zipfile.ZipFile(path, "w") as archive:  # as torch.jit.save names its parts
        for part in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"ViT-L-14/{part}", b"")
    with pytest.raises(WeightsError, match=r"TorchScript archive.*--weights openai"):
        read_state_dict(path)
    with pytest.raises(WeightsError, match="TorchScript archive"):
        open_clip_options("ViT-L-14-quickgelu", str(path))


@pytest.mark.parametrize("official", [True, False])
def test_values_that_are_no_numbers_are_refused(tmp_path: Path, official: bool) -> None:
    source = make_network()
    state = official_state(source) if official else dict(source.state_dict())
    key = next(key for key in state if key.endswith("conv.weight"))
    state[key] = torch.full_like(state[key], float("nan"))
    network = make_network()
    with pytest.raises(WeightsError, match=f"{re.escape(key)}: not all values are finite"):
        load_weights(network, save(state, tmp_path))
    assert all(parameter.isfinite().all() for parameter in network.parameters())
