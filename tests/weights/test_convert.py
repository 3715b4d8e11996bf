"""Official layouts: names, and what the shapes say."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.backbones.ftcn import FTCNNetwork
from lightning_modules.backbones.hff import HFFNetwork
from lightning_modules.backbones.i3d import I3DNetwork
from weights.convert import LAYOUTS, MARKERS, _bench_key, recognise
from weights.golden_numbers import read_golden

LAYOUT = LAYOUTS["ftcn_tt"]


def official_shapes() -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape, _ in read_golden("ftcn_tt.json")["state_dict"]}


def i3d_shapes() -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape, _ in read_golden("altfreezing.json")["state_dict"]}


def kinetics_shapes() -> dict[str, tuple[int, ...]]:
    shapes = {key.removeprefix("resnet."): shape for key, shape in i3d_shapes().items()}
    return shapes | {"head.projection.weight": (400, 2048), "head.projection.bias": (400,)}


def hff_shapes() -> dict[str, tuple[int, ...]]:
    shapes = read_golden("hff_two_stream.json")["state_dict_shapes"]
    return {key: tuple(shape) for key, shape in shapes.items()}


def bench_shapes() -> dict[str, tuple[int, ...]]:
    """DeepfakeBench's 641 entries."""
    shapes = {_bench_key(key): shape for key, shape in hff_shapes().items()}
    for stream in ("backbone_rgb", "backbone_srm"):
        shapes |= {f"{stream}.adjust_channel.0.{name}": (512,) for name in ("weight", "bias")}
        norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        shapes |= {f"{stream}.adjust_channel.1.{name}": (512,) for name in norm}
    return shapes | {"blur.weight": (3, 1, 3, 3)}


def xception_shapes() -> dict[str, tuple[int, ...]]:
    """The ImageNet Xception of timm, less its classifier's shapes."""
    prefix = "xception_rgb.model."
    trunk = {k.removeprefix(prefix): s for k, s in hff_shapes().items() if k.startswith(prefix)}
    trunk = {key: shape for key, shape in trunk.items() if not key.startswith("last_linear")}
    return trunk | {"fc.weight": (1000, 2048), "fc.bias": (1000,)}


def test_our_624_keys_of_hff_are_the_official_ones_renamed() -> None:
    with torch.device("meta"):
        state = HFFNetwork().state_dict()
    for name, shapes in (("hff", hff_shapes()), ("hff_bench", bench_shapes())):
        layout = LAYOUTS[name]
        renamed = {layout.official_key(key): tuple(value.shape) for key, value in state.items()}
        dead = {key for key in shapes if key.startswith(layout.dead_prefixes)}
        assert len(renamed) == 624
        assert renamed == {key: shape for key, shape in shapes.items() if key not in dead}
    assert len(bench_shapes()) == 641


def test_both_streams_take_the_imagenet_xception() -> None:
    with torch.device("meta"):
        state = HFFNetwork().state_dict()
    layout = LAYOUTS["xception"]
    sources = layout.sources(state)
    assert sources["rgb.block4.rep.1.pointwise.weight"] == "block4.rep.1.pointwise.weight"
    assert sources["high.block4.rep.1.pointwise.weight"] == "block4.rep.1.pointwise.weight"
    trunk = {key for key in xception_shapes() if not key.startswith("fc.")}
    assert set(sources.values()) == trunk
    assert len(sources) == 2 * len(trunk) == 2 * 274
    parts = {key.partition(".")[0] for key in state if key not in sources}
    fresh = {"residual", "inject1", "inject2", "guide", "guided", "cross0", "cross1", "fusion"}
    assert parts == fresh | {"classifier"}


def test_width_of_hff_is_read_off_the_shapes() -> None:
    with torch.device("meta"):
        state = HFFNetwork(32, width=8).state_dict()
    for name, more in (("hff", {}), ("hff_bench", {"fusion": "multiply"})):
        layout = LAYOUTS[name]
        shapes = {key: tuple(state[ours].shape) for ours, key in layout.sources(state).items()}
        assert layout.structure(shapes) == {"width": 8, **more}


def test_our_320_keys_of_i3d_are_the_official_ones_renamed() -> None:
    with torch.device("meta"):
        state = I3DNetwork().state_dict()
    layout = LAYOUTS["altfreezing"]
    renamed = {layout.official_key(key): tuple(value.shape) for key, value in state.items()}
    assert len(renamed) == 320
    assert renamed == i3d_shapes()
    kinetics = {LAYOUTS["kinetics_i3d"].official_key(key) for key in state}
    assert kinetics == set(kinetics_shapes())


def test_width_of_i3d_is_read_off_the_shapes() -> None:
    shapes = i3d_shapes()
    assert LAYOUTS["altfreezing"].structure(shapes) == {"width": 64}
    assert LAYOUTS["kinetics_i3d"].structure(kinetics_shapes()) == {"width": 64}
    shapes["resnet.s1.pathway0_stem.conv.weight"] = (3, 3, 5, 7, 7)  # one damaged entry
    assert LAYOUTS["altfreezing"].structure(shapes) == {"width": 64}
    with torch.device("meta"):
        state = I3DNetwork(width=8).state_dict()
    layout = LAYOUTS["altfreezing"]
    small = {layout.official_key(key): tuple(value.shape) for key, value in state.items()}
    assert layout.structure(small) == {"width": 8}


def test_our_275_keys_are_the_official_ones_renamed() -> None:
    with torch.device("meta"):
        state = FTCNNetwork().state_dict()
    renamed = {LAYOUT.official_key(key): tuple(value.shape) for key, value in state.items()}
    assert len(renamed) == 275
    assert renamed == official_shapes()


def test_paper_structure_has_the_official_head() -> None:
    with torch.device("meta"):
        state = FTCNNetwork("paper").state_dict()
    renamed = {LAYOUT.official_key(key): list(value.shape) for key, value in state.items()}
    golden = read_golden("ftcn_tt.json")["paper_structure_variant"]["head_keys"]
    for key, shape, _ in golden:
        assert renamed[key] == shape
    assert "resnet.s5.pathway0_res0.branch2.b_bn.0.running_var" in renamed
    assert "resnet.s5.pathway0_res1.branch2.b_bn.running_var" in renamed


def test_an_unknown_key_is_not_translated_by_chance() -> None:
    with pytest.raises(KeyError, match=r"backbone\.stem\.extra"):
        LAYOUT.official_key("backbone.stem.extra")


@pytest.mark.parametrize(
    "arguments",
    [
        {"structure": "released", "width": 64, "depth": 1, "max_frames": 32},
        {"structure": "paper", "width": 64, "depth": 1, "max_frames": 32},
        {"structure": "released", "width": 8, "depth": 3, "max_frames": 64},
    ],
)
def test_structure_is_read_off_the_shapes(arguments: dict[str, object]) -> None:
    with torch.device("meta"):
        state = FTCNNetwork(**arguments, num_frames=8).state_dict()  # type: ignore[arg-type]
    shapes = {LAYOUT.official_key(key): tuple(value.shape) for key, value in state.items()}
    assert LAYOUT.structure(shapes) == arguments


def test_one_damaged_entry_does_not_change_the_structure() -> None:
    shapes = official_shapes()
    shapes["resnet.s1.pathway0_stem.bn.0.weight"] = (3,)
    del shapes["resnet.head.time_T.pos_embedding"]
    assert LAYOUT.structure(shapes) == {
        "structure": "released",
        "width": 64,
        "depth": 1,
        "max_frames": 32,
    }


def test_methods_are_told_apart_by_their_keys() -> None:
    keys = {
        "ftcn_tt": official_shapes(),
        "altfreezing": {key: () for key, *_ in read_golden("altfreezing.json")["state_dict"]},
        "hff": hff_shapes(),
        "hff_bench": bench_shapes(),
        "xception": xception_shapes(),
        "kinetics_i3d": kinetics_shapes(),
        "sta": {"backbone.transformer.resblocks.0.Adapter.down.weight": ()},
    }
    keys["clip"] = {"visual.transformer.resblocks.0.attn.in_proj_weight": ()}
    keys["clip_hugging_face"] = {"encoder.layers.0.self_attn.q_proj.weight": ()}
    assert set(keys) == set(MARKERS)
    for method, names in keys.items():
        assert recognise(names) == method
    assert recognise({"conv.weight": ()}) is None
