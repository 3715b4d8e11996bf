"""The certificate of HFF: every module in call order, both fusions, gradients, losses, filters."""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from weights import golden_calls as calls
from weights import golden_numbers as gold
from weights.convert import LAYOUTS
from weights.loading import load_official
from weights.parity import AS_USED, GRADIENT_LIMIT_FLOAT32, LIMITS, Finding, name_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

#: Largest difference of float64: the file's statistics have ten digits.
LIMIT_FLOAT64 = 1e-9

#: Official modules, and ours.
MODULES = (
    (r"xception_rgb\.model\.last_linear", "classifier"),
    (r"xception_rgb\.model\.(.+)", r"rgb.\1"),
    (r"xception_srm\.model\.(.+)", r"high.\1"),
    (r"srm_conv0", "residual"),
    (r"srm_conv0\.truc", "residual.truncation"),
    (r"srm_conv(\d)\.truc", r"inject\1.truncation"),
    (r"srm_conv(\d)\.out_conv(.*)", r"inject\1.mix\2"),
    (r"srm_conv(\d)", r"inject\1"),
    (r"relu", "relu"),
    (r"srm_sa\.srm\.truc", "guide.srm.truncation"),
    (r"srm_sa\.pa(.*)", r"guide.attention\1"),
    (r"srm_sa(|\.srm|\.conv.*)", r"guide\1"),
    (r"srm_sa_post(.*)", r"guided\1"),
    (r"dual_cma(\d)\.key_conv_share", r"cross\1.key_shared"),
    (r"dual_cma(\d)\.(key|value)_conv(\d)", r"cross\1.\2\3"),
    (r"dual_cma(\d)(.*)", r"cross\1\2"),
    (r"fusion\.convblk(.*)", r"fusion.mix\1"),
    (r"fusion\.ca\.sharedMLP(.*)", r"fusion.attention.mlp\1"),
    (r"fusion\.ca", "fusion.attention"),
    (r"fusion", "fusion"),
)

#: Keywords of our loss by name of the official one's.
_LOSS_OPTIONS = {"m": "margin", "s": "scale", "gamma": "gamma", "margin_type": "margin_type"}


def certify_hff(quick: bool = False) -> list[Finding]:
    """Recompute the golden numbers of HFF.

    Args:
        quick: Leave out float32, multiplication and gradients.

    Returns:
        Everything that was compared.
    """
    golden = gold.read_golden("hff_two_stream.json")
    findings = [*_size(golden), *_parts(golden)]
    for dtype in (torch.float64,) if quick else (torch.float32, torch.float64):
        network = build(dtype, golden)
        findings += evaluate(network, golden)
        if not quick:
            findings += [*_gradients(network, golden), *_multiply(golden, dtype)]
    return findings


def build(dtype: torch.dtype, golden: Mapping[str, Any], layout: str = "hff") -> nn.Module:
    """Build the network with rule-made weights, loaded strictly as a published file would be.

    Args:
        dtype: What it computes in.
        golden: The file.
        layout: Whose file: `hff`, or `hff_bench` with the fusion that belongs to it.
    """
    options = LAYOUTS[layout].options
    network: nn.Module = _ours("lightning_modules.backbones.hff:HFFNetwork")(
        golden["input_size"][-1], **options
    )
    own = network.state_dict()
    official, given = (LAYOUTS[name].sources(own) for name in ("hff", layout))
    state = calls.fill_state({key: own[ours].shape for ours, key in official.items()})
    renamed = {given[ours]: state.get(key, own[ours]) for ours, key in official.items()}
    load_official(network, renamed, LAYOUTS[layout], source="the rule-made state dict")
    return network.to(dtype).eval()


def images(golden: Mapping[str, Any], dtype: torch.dtype) -> Tensor:
    """Make both rule-made images, shape (2, 3, H, W)."""
    made = [calls.make_image(number, golden["input_size"][-1]) for number in (0, 1)]
    return torch.stack([torch.from_numpy(image) for image in made]).to(dtype)


@torch.no_grad()
def evaluate(network: nn.Module, golden: Mapping[str, Any]) -> list[Finding]:
    """Compare all modules and the results, layer by layer, and the results as in use."""
    dtype = next(network.parameters()).dtype
    rows = golden["activations_float64"]
    with calls.watch_calls(network, rows, MODULES) as log:
        scores = network(images(golden, dtype))
    official_order = log.order == [row["at"] for row in rows]
    found = {
        **log.differences,
        f"{len(rows)} calls in the official order": _exact(official_order),
        **{f"{k} (layer by layer)": value for k, value in _results(scores, golden).items()},
    }
    used = network(images(golden, dtype))
    found |= {f"{name} (as used)": value for name, value in _results(used, golden).items()}
    return [_finding("evaluation", dtype, row, value) for row, value in found.items()]


@torch.no_grad()
def _multiply(golden: Mapping[str, Any], dtype: torch.dtype) -> list[Finding]:
    """Compare DeepfakeBench's variant, read from a file in its layout."""
    scores = build(dtype, golden, "hff_bench")(images(golden, dtype))
    found = _logits(scores[0], golden, "logits_if_fusion_is_multiply_only")
    return [_finding("DeepfakeBench's layout and fusion", dtype, AS_USED, found)]


def _gradients(network: nn.Module, golden: Mapping[str, Any]) -> list[Finding]:
    dtype = next(network.parameters()).dtype
    network.zero_grad()
    loss = F.cross_entropy(network(images(golden, dtype))[0], torch.tensor([0, 1]))
    torch.autograd.backward(loss)
    parameters = dict(network.named_parameters())
    ours = {key: name for name, key in LAYOUTS["hff"].sources(parameters).items()}
    norms = {name: w.grad.norm().item() for name, w in parameters.items() if w.grad is not None}
    differences = [
        gold.relative_difference(norms.get(ours[key], float("nan")), norm)
        for key, norm in golden["gradient_l2_float64"].items()
    ]
    without = float("inf") if set(norms) != set(parameters) else 0.0
    table, limit = "gradients of a cross-entropy in evaluation mode", GRADIENT_LIMIT_FLOAT32
    golden_loss = golden["eval_mode_cross_entropy_labels_0_1_float64"]
    relative = gold.relative_difference(loss.item(), golden_loss)
    return [
        _finding(table, dtype, "loss", relative),
        _finding(table, dtype, f"{len(differences)} gradient norms", max(differences), limit),
        _finding(table, dtype, "a gradient for every parameter", without),
    ]


def _size(golden: Mapping[str, Any]) -> list[Finding]:
    """Compare keys, shapes and the number of parameters as the official network counts them."""
    with torch.device("meta"):
        network = _ours("lightning_modules.backbones.hff:HFFNetwork")()
    layout, own = LAYOUTS["hff"], network.state_dict()
    official = {k: tuple(shape) for k, shape in golden["state_dict_shapes"].items()}
    dead = {k: v for k, v in official.items() if k.startswith(layout.dead_prefixes)}
    ours = {key: tuple(own[name].shape) for name, key in layout.sources(own).items()}
    trained = sum(weight.numel() for weight in network.parameters())
    fixed = sum(v.numel() for name, v in own.items() if name.endswith(".kernel"))
    unused = sum(torch.Size(shape).numel() for shape in dead.values())
    total = golden["counts"]["parameters_total"]
    row = f"{total:,} parameters: {trained:,}, {fixed:,} fixed, {unused:,} never used"
    found = {
        row: trained + fixed + unused == total,
        f"{len(official)} keys and shapes, {len(dead)} of them never used": ours | dead == official,
    }
    return [Finding("hff: size", "as listed", k, _exact(same), 0.0) for k, same in found.items()]


def _parts(golden: Mapping[str, Any]) -> list[Finding]:
    """Compare what needs no network: losses, the cosine head, the fixed filters."""
    found = {f"AM-softmax {key}": value for key, value in _losses(golden["am_softmax"])}
    found["cosines of the angle head"] = _angle_head(golden["angle_linear"])
    taps = golden["srm_simple_kernel"]
    kernel = _ours("lightning_modules.backbones.srm:SRMImage")().kernel
    for colour in range(3):
        found[f"filters on colour {colour}"] = gold.difference(
            kernel[:, colour].tolist(), taps["taps_per_output_map_same_for_each_input_channel"]
        )
    for name, entry in golden["srm_separate_bank"].items():
        found[f"filter layout {name}"] = _bank_layout(int(name.removeprefix("inc")), entry)
    return [_finding("losses, head and filters", torch.float64, k, v) for k, v in found.items()]


def _losses(golden: Mapping[str, Any]) -> list[tuple[str, float]]:
    cosines = torch.tensor(golden["cos_theta"], dtype=torch.float64)
    target = torch.tensor(golden["target"])
    am_softmax = _ours("lightning_modules.losses:am_softmax")
    found = []
    for key, value in golden["loss"].items():
        if isinstance(value, float):
            options = {_LOSS_OPTIONS[name]: x for name, x in json.loads(key).items()}
            loss = am_softmax(cosines, target, **options).item()
            found.append((key, gold.relative_difference(loss, value)))
    return found


def _angle_head(golden: Mapping[str, Any]) -> float:
    head = _ours("lightning_modules.backbones.hff:AngleLinear")(6, 2).double()
    head.weight.data = torch.from_numpy(calls.fill("angle.weight", (6, 2))).double()
    features = np.random.Generator(np.random.PCG64(7)).standard_normal((3, 6))
    return gold.difference(head(torch.from_numpy(features)).tolist(), golden["cos_theta"])


def _bank_layout(channels: int, golden: Mapping[str, Any]) -> float:
    """Compare which filter each output map has, and which input channels see two kinds."""
    module = import_module("lightning_modules.backbones.srm")
    kernel, filters = module.separate_bank(channels, "official"), module.srm_filters()
    kinds = [next(k for k in range(3) if torch.equal(taps[0], filters[k])) for taps in kernel]
    names = ["KB", "KV", "H2"]
    runs = [
        [names[kind], kinds.index(kind), len(kinds) - 1 - kinds[::-1].index(kind)]
        for kind in dict.fromkeys(kinds)
    ]
    mixed = [c for c in range(channels) if len(set(kinds[3 * c : 3 * c + 3])) > 1]
    return _exact(
        list(kernel.shape) == golden["kernel_shape"]
        and runs == golden["runs_of_output_maps"]
        and mixed == golden["input_channels_seeing_two_filter_types"]
    )


def _results(scores: tuple[Tensor, Tensor, Tensor], golden: Mapping[str, Any]) -> dict[str, float]:
    return {
        "pooled feature": calls.output_difference(scores[1], golden["pooled_feature_float64"]),
        "attention map": calls.output_difference(scores[2], golden["attention_map_float64"]),
        "logit": _logits(scores[0], golden, "logits"),
    }


def _logits(logits: Tensor, golden: Mapping[str, Any], name: str) -> float:
    return gold.difference(logits.tolist(), golden[f"{name}_{name_of(torch.float64)}"])


def _finding(
    table: str, dtype: torch.dtype, row: str, found: float, limit_float32: float | None = None
) -> Finding:
    limit = LIMIT_FLOAT64 if dtype == torch.float64 else limit_float32 or LIMITS[dtype]
    return Finding(f"hff: {table}", name_of(dtype), row, found, limit)


def _exact(same: bool) -> float:
    return 0.0 if same else float("inf")


def _ours(word: str) -> Any:
    """Import `module:name`; a word, because `weights` stands below the methods."""
    module, _, name = word.partition(":")
    return getattr(import_module(module), name)
