"""The certificate of StA: modules in call order, logits of each clip, gradients, keys and sizes."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F  # noqa: N812

from weights import golden_calls as calls
from weights import golden_numbers as gold
from weights.convert import LAYOUTS
from weights.loading import load_official
from weights.parity import GRADIENT_LIMIT_FLOAT32, LIMITS, Finding, name_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

#: Largest difference of float64: the file's statistics have ten digits.
LIMIT_FLOAT64 = 1e-9

_BLOCK = r"backbone\.transformer\.resblocks\.(\d+)"

#: Official modules, and ours.
MODULES = (
    (r"backbone\.(conv1|ln_pre|ln_post)", r"backbone.\1"),
    (_BLOCK + r"\.(ln_1|attn|ln_2|mlp|mlp\..+)", r"backbone.blocks.\1.\2"),
    (_BLOCK + r"\.Adapter\.(down|up)", r"backbone.blocks.\1.adapter.\2"),
    (_BLOCK + r"\.Adapter\.gelu1", r"backbone.blocks.\1.adapter.act_down"),
    (_BLOCK + r"\.Adapter\.gelu", r"backbone.blocks.\1.adapter.act_mix"),
    (_BLOCK + r"\.Adapter\.gelu2", r"backbone.blocks.\1.adapter.act_up"),
    *(
        (
            _BLOCK + rf"\.Adapter\.{stream[0]}_conv{index + 1}(|\..+)",
            rf"backbone.blocks.\1.adapter.{stream}.{index}\2",
        )
        for stream in ("spatial", "temporal")
        for index in range(3)
    ),
    (_BLOCK + r"\.Adapter\.cross_attention(|\..+)", r"backbone.blocks.\1.adapter.cross\2"),
    (_BLOCK + r"\.Adapter", r"backbone.blocks.\1.adapter"),
    (_BLOCK, r"backbone.blocks.\1"),
    (r"backbone", "backbone"),
    (r"head\.avg_pool", "dropout"),
    (r"head\.fc_cls", "head"),
)

#: Official attention gives its matrices as a second output.
_ONLY_OUTPUT = r"(_to_temporal|_to_spatial)\[out0\]"

#: Rows that are another one's tensor once more, and matrices of attention, which ours keeps not.
_LEFT_OUT = r"backbone\.transformer(\.resblocks)?|head|.+(_to_temporal|_to_spatial)\[out1\]"

#: Configurations of the file that are computed when it must not take long.
QUICK = ("tiny",)


def certify_sta(quick: bool = False) -> list[Finding]:
    """Recompute the golden numbers of StA.

    Args:
        quick: Leave out all but the smallest network.

    Returns:
        Everything that was compared.
    """
    golden = gold.read_golden("sta.json")
    findings = []
    for name, entry in golden["configs"].items():
        findings += size(name, entry)
        if name in QUICK or not quick:
            findings += certify_configuration(name, entry)
    return findings


def certify_configuration(name: str, golden: Mapping[str, Any]) -> list[Finding]:
    """Compare a configuration of the file in evaluation mode, in float32 and float64.

    Args:
        name: Of the configuration.
        golden: Its entry.
    """
    network, findings = build(golden), []
    for dtype in (torch.float32, torch.float64):
        network.to(dtype)
        findings += evaluate(name, network, golden)
        if "gradient_l2_float64" in golden:
            findings += gradients(name, network, golden)
    return findings


def build(golden: Mapping[str, Any]) -> nn.Module:
    """Build the network with rule-made weights, loaded strictly as an official file would be.

    Args:
        golden: A configuration of the file.

    Returns:
        In evaluation mode; float32, which the rule rounds to.
    """
    network, layout = _construct(golden["config"]), LAYOUTS["sta"]
    own = network.state_dict()
    state = calls.fill_state({key: own[ours].shape for ours, key in layout.sources(own).items()})
    load_official(network, state, layout, source="the rule-made state dict")
    return network.eval()


def clips(golden: Mapping[str, Any], dtype: torch.dtype) -> Tensor:
    """Make both rule-made clips, shape (2, 3, T, S, S)."""
    size, frames = golden["config"]["size"], golden["config"]["frames"]
    made = [calls.make_clip(number, size, frames) for number in (0, 1)]
    return torch.stack([torch.from_numpy(clip) for clip in made]).to(dtype).transpose(1, 2)


@torch.no_grad()
def evaluate(name: str, network: nn.Module, golden: Mapping[str, Any]) -> list[Finding]:
    """Compare all modules layer by layer with the first clip alone; then logits as in use.

    Those are of both clips in a batch: official numbers are of each clip alone, and no clip may
    change another's.
    """
    dtype = next(network.parameters()).dtype
    rows = [
        {**row, "at": re.sub(_ONLY_OUTPUT, r"\1", row["at"])}
        for row in golden["activations_of_input_0_float64"]
        if not re.fullmatch(_LEFT_OUT, row["at"])
    ]
    both, expected = clips(golden, dtype), golden["logits_float64"]
    with calls.watch_calls(network, rows, MODULES, _official_shape) as log:
        logits = network(both[:1])[0]
    found = {
        **log.differences,
        f"{len(rows)} calls in the official order": _exact(log.order == [r["at"] for r in rows]),
        "logits (layer by layer)": gold.difference(logits.tolist(), expected[:1]),
        "logits, both clips (as used)": gold.difference(network(both)[0].tolist(), expected),
    }
    return [_finding(f"{name}: evaluation", dtype, row, value) for row, value in found.items()]


def gradients(name: str, network: nn.Module, golden: Mapping[str, Any]) -> list[Finding]:
    """Compare gradients of a cross-entropy in evaluation mode, both clips in a batch, as in use."""
    dtype = next(network.parameters()).dtype
    network.zero_grad()
    loss = F.cross_entropy(network(clips(golden, dtype))[0], torch.tensor([0, 1]))
    torch.autograd.backward(loss)
    parameters = dict(network.named_parameters())
    ours = {key: own for own, key in LAYOUTS["sta"].sources(parameters).items()}
    norms = {key: parameters[own].grad for key, own in ours.items()}
    differences = []
    for key, norm in golden["gradient_l2_float64"].items():
        gradient = norms[key]
        got = float("nan") if gradient is None else gradient.double().norm().item()
        differences.append(gold.relative_difference(got, norm))
    golden_loss = golden["eval_mode_cross_entropy_labels_0_1_float64"]
    table = f"{name}: gradients of a cross-entropy in evaluation mode"
    row = f"{len(differences)} gradient norms"
    return [
        _finding(table, dtype, "loss", gold.relative_difference(loss.item(), golden_loss)),
        _finding(table, dtype, row, max(differences), GRADIENT_LIMIT_FLOAT32),
    ]


def size(name: str, golden: Mapping[str, Any]) -> list[Finding]:
    """Compare keys, shapes and numbers of parameters as the official network counts them."""
    with torch.device("meta"):
        network = _construct(golden["config"])
    own, counts = network.state_dict(), golden["counts"]
    ours = {key: list(own[key_].shape) for key_, key in LAYOUTS["sta"].sources(own).items()}
    # The configurations `geom` and `full` have the same key scheme; the file lists it once.
    listed = golden.get("state_dict_shapes")
    total = sum(weight.numel() for weight in network.parameters())
    rule = counts["trainable_by_the_commented_freezing_rule"]
    network.freeze_tower()  # type: ignore[operator]
    trained = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    found = {
        f"{counts['parameters_total']:,} parameters": total == counts["parameters_total"],
        f"{trained:,} of them trained": trained == rule,
    }
    if listed is not None:
        found[f"{len(listed)} keys and shapes"] = ours == listed
    return [Finding(f"sta, {name}: size", "as listed", k, _exact(v), 0.0) for k, v in found.items()]


def _construct(config: Mapping[str, int]) -> nn.Module:
    network = import_module("lightning_modules.backbones.sta").build_network(
        num_frames=config["frames"],
        image_size=config["size"],
        patch_size=config["patch"],
        width=config["width"],
        num_layers=config["layers"],
        num_heads=config["heads"],
    )
    assert isinstance(network, torch.nn.Module)
    return network


def _official_shape(row: Mapping[str, Any], tensor: Tensor) -> Tensor:
    """Lay an output of ours out as the official module's.

    Inside blocks tokens come first there; what ours has as tokens may be maps there.
    """
    shape = torch.Size(row["shape"])
    if tensor.numel() != shape.numel() or tensor.ndim > 3:
        return tensor
    if tensor.ndim == 3 and len(shape) == 5:
        tensor = tensor.transpose(1, 2)
    elif re.match(_BLOCK, row["at"]):
        tensor = tensor.transpose(0, 1)
    return tensor.reshape(shape)


def _finding(
    table: str, dtype: torch.dtype, row: str, found: float, limit_float32: float | None = None
) -> Finding:
    limit = LIMIT_FLOAT64 if dtype == torch.float64 else limit_float32 or LIMITS[dtype]
    return Finding(f"sta, {table}", name_of(dtype), row, found, limit)


def _exact(same: bool) -> float:
    return 0.0 if same else float("inf")
