"""CLIP's image tower from files of OpenAI, open_clip and Hugging Face, and the authors' layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_modules.backbones.sta import StANetwork, build_network
from weights.convert import LAYOUTS
from weights.errors import WeightsError
from weights.loading import load_weights


def make(num_layers: int = 2) -> StANetwork:
    return build_network(2, 16, 8, 32, num_layers=num_layers, num_heads=2)


def tower(network: StANetwork) -> dict[str, Tensor]:
    """Return a network's tower as OpenAI and open_clip name it."""
    sources = LAYOUTS["clip"].sources(network.state_dict())
    return {key: network.state_dict()[own] for own, key in sources.items()}


def hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a tower, and take queries, keys and values apart."""
    names = {
        **{"class_embedding": "embeddings.class_embedding", "ln_pre": "pre_layrnorm"},
        **{"positional_embedding": "embeddings.position_embedding.weight"},
        **{"conv1": "embeddings.patch_embedding", "ln_post": "post_layernorm"},
        **{"transformer.resblocks": "encoder.layers", "ln_1": "layer_norm1", "ln_2": "layer_norm2"},
        **{"attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"},
    }
    renamed = {}
    for key, value in state.items():
        theirs = key
        for ours, name in names.items():
            theirs = theirs.replace(ours, name)
        if ".attn.in_proj_" in key:
            for part, third in zip("qkv", value.chunk(3), strict=True):
                renamed[theirs.replace("attn.in_proj_", f"self_attn.{part}_proj.")] = third
        else:
            renamed[theirs] = value
    return renamed


def save(state: dict[str, Tensor], folder: Path) -> Path:
    path = folder / "weights.pth"
    torch.save(state, path)
    return path


def assert_tower_is_loaded(network: StANetwork, source: StANetwork) -> None:
    mine, theirs = tower(network), tower(source)
    assert mine.keys() <= theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_a_whole_clip_of_openai_or_open_clip(tmp_path: Path) -> None:
    source, network = make(3), make()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = {f"visual.{key}": value for key, value in tower(source).items()}
    state |= {"visual.proj": torch.zeros(32, 8), "logit_scale": torch.zeros(())}
    state |= {"transformer.resblocks.0.ln_1.weight": torch.zeros(8)}  # of the text tower
    report = load_weights(network, save(state, tmp_path))
    assert_tower_is_loaded(network, source)
    assert report.left_out == ("proj", "transformer.resblocks.2")
    assert report.text.endswith("as initialised: backbone, head")
    after = network.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in report.fresh)
    assert {"head.weight", "backbone.blocks.0.adapter.up.weight"} < set(report.fresh)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_an_image_tower_alone(tmp_path: Path, prefix: str) -> None:
    source, network = make(), make()
    state = {prefix + key: value for key, value in tower(source).items()}
    assert load_weights(network, save(state, tmp_path)).left_out == ()
    assert_tower_is_loaded(network, source)


@pytest.mark.parametrize("prefix", ["", "vision_model."])
def test_files_of_hugging_face(tmp_path: Path, prefix: str) -> None:
    source, network = make(3), make()
    state = {prefix + key: value for key, value in hugging_face(tower(source)).items()}
    assert f"{prefix}encoder.layers.1.self_attn.k_proj.bias" in state
    if prefix:  # of both towers, and of an older version
        state |= {"text_model.final_layer_norm.bias": torch.zeros(8)}
        state |= {"vision_model.embeddings.position_ids": torch.arange(5)}
    report = load_weights(network, save(state, tmp_path))
    assert_tower_is_loaded(network, source)
    assert report.left_out[-1] == "transformer.resblocks.2"


def test_official_file(tmp_path: Path) -> None:
    source, network = make(), make()
    for weight in source.parameters():
        torch.nn.init.normal_(weight)
    sources = LAYOUTS["sta"].sources(source.state_dict())
    state = {f"module.{key}": source.state_dict()[own] for own, key in sources.items()}
    assert load_weights(network, save(state, tmp_path)) == ((), ())
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in network.state_dict().items())
    with pytest.raises(WeightsError, match=r"does not fit sta \(460 entries\)\. 150 missing"):
        load_weights(make(3), save(state, tmp_path))
    with pytest.raises(WeightsError, match="150 extra"):
        load_weights(make(1), save(state, tmp_path))


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    state = tower(make())
    with pytest.raises(WeightsError, match=r"12 missing: transformer\.resblocks\.2\.ln_1\.weight"):
        load_weights(make(3), save(state, tmp_path))
    with pytest.raises(WeightsError, match=r"1 extra: transformer\.resblocks\.1\.ln_3\.weight"):
        load_weights(
            make(),
            save(state | {"transformer.resblocks.1.ln_3.weight": state["ln_pre.bias"]}, tmp_path),
        )
    theirs = hugging_face(state)
    del theirs["encoder.layers.1.self_attn.v_proj.weight"]
    with pytest.raises(
        WeightsError, match=r"1 missing: transformer\.resblocks\.1\.attn\.in_proj_w"
    ):
        load_weights(make(), save(theirs, tmp_path))
    other = build_network(2, 32, 8, 32, num_layers=2, num_heads=2)
    with pytest.raises(WeightsError, match=r"positional_embedding is \(5, 32\), wanted \(17, 32\)"):
        load_weights(other, save(state, tmp_path))
    with pytest.raises(WeightsError, match="looks like official clip weights, which Linear cannot"):
        load_weights(torch.nn.Linear(2, 2), save(state, tmp_path))
