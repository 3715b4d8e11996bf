"""Compare a network with golden numbers, stage by stage."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from weights import golden_numbers as gold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

#: Largest difference that passes, by dtype: see `golden_numbers.difference`.
LIMITS = {torch.float32: 1e-4, torch.float64: 1e-8}

#: Largest difference of a training step, relative.
TRAINING_LIMIT = 1e-4

#: The same for gradient norms in float32. The golden numbers are float64; rounding to float32
#: flips some decisions of ReLU and pools, and plain `nn.Conv3d` layers are off by 2.1e-3 as well.
GRADIENT_LIMIT_FLOAT32 = 5e-3

#: How the logits of the network as it is used are called: no stage is looked at, so it may take
#: whatever way is fastest.
AS_USED = "logit (as used)"


class Finding(NamedTuple):
    """One compared thing.

    Attributes:
        table: Heading it belongs under.
        column: Variant and dtype.
        row: Stage or quantity.
        difference: The largest one found.
        limit: The largest one allowed.
    """

    table: str
    column: str
    row: str
    difference: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within the limit; NaN is not."""
        return self.difference <= self.limit


@dataclass(frozen=True)
class Tap:
    """Where a golden stage is seen in our network.

    Attributes:
        stage: Pattern of the golden stage's name; matches it wholly.
        module: Name of our module; may refer to groups of the pattern.
        at: Which side of the module.
        view: Brings the tensor into the official shape.
    """

    stage: str
    module: str
    at: Literal["input", "output"] = "output"
    view: Callable[[Tensor], Tensor] | None = None

    def look(self, inputs: tuple[Any, ...], output: Any) -> Tensor:
        """Pick the tensor out of what a forward hook sees."""
        tensor: Tensor = inputs[0] if self.at == "input" else output
        return tensor if self.view is None else self.view(tensor)


@dataclass(frozen=True)
class Subject:
    """A network under examination.

    Attributes:
        network: In the dtype it is examined in.
        official_keys: Our key by official key.
        taps: Where the golden stages are seen.
        logit: Takes the log-odds of fake, (B,), from the network's output.
    """

    network: nn.Module
    official_keys: Mapping[str, str]
    taps: Sequence[Tap]
    logit: Callable[[Any], Tensor]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.network.parameters()).dtype

    def clip(self, name: str, golden: Mapping[str, Any]) -> Tensor:
        """Make a rule-made clip of a variant's size, (1, 3, T, H, W), in the network's dtype."""
        return gold.make_clip(name, golden["T"], golden["H"], golden["W"]).to(self.dtype)


@contextmanager
def watch_stages(subject: Subject, golden: Mapping[str, Any]) -> Iterator[dict[str, float]]:
    """Compare stages while the network runs.

    Args:
        subject: The network.
        golden: Shape and statistics by name of stage.

    Yields:
        Largest difference by name of stage; infinite as long as a stage was not seen.
    """
    differences = dict.fromkeys(golden, float("inf"))
    handles = []

    def hook(stage: str, tap: Tap) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def compare(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            differences[stage] = gold.stage_difference(tap.look(inputs, output), golden[stage])

        return compare

    for stage in golden:
        tap, module = _find(subject, stage)
        handles.append(module.register_forward_hook(hook(stage, tap)))
    try:
        yield differences
    finally:
        for handle in handles:
            handle.remove()


def _find(subject: Subject, stage: str) -> tuple[Tap, nn.Module]:
    for tap in subject.taps:
        match = re.fullmatch(tap.stage, stage)
        if match:
            return tap, subject.network.get_submodule(match.expand(tap.module))
    raise KeyError(f"No tap says where the golden stage {stage!r} is.")


@torch.inference_mode()
def certify_evaluation(
    subject: Subject, golden: Mapping[str, Any], table: str, column: str
) -> list[Finding]:
    """Compare stages and logits in evaluation mode, over all clips of a variant.

    The logits are computed twice: layer by layer while the stages are watched, and as in use.

    Args:
        subject: The network, with rule-made weights.
        golden: The variant's entry.
        table: Heading for the findings.
        column: Column for the findings.
    """
    subject.network.eval()
    worst: dict[str, float] = {}
    for name, entry in golden["clips"].items():
        clip = subject.clip(name, golden)
        with watch_stages(subject, entry["stages_float64"]) as differences:
            watched = subject.logit(subject.network(clip))
        differences["logit (layer by layer)"] = gold.difference(
            watched.tolist(), entry["logit_float64"]
        )
        used = subject.logit(subject.network(clip))
        differences[AS_USED] = gold.difference(used.tolist(), entry["logit_float64"])
        for stage, found in differences.items():
            worst[stage] = max(found, worst.get(stage, 0))
    limit = LIMITS[subject.dtype]
    return [Finding(table, column, stage, found, limit) for stage, found in worst.items()]


def certify_training(
    subject: Subject,
    golden: Mapping[str, Any],
    table: str,
    *,
    watched: bool,
    stage_limit_float32: float = TRAINING_LIMIT,
) -> list[Finding]:
    """Compare one training step: both clips in a batch, dropout off, binary cross-entropy.

    Args:
        subject: The network, with rule-made weights; is changed.
        golden: The file's entry `train_mode`.
        table: Heading for the findings.
        watched: Whether the stages are watched, so that the layers run one by one, or the
            network runs as in use.
        stage_limit_float32: Largest difference of a stage that passes in float32.
    """
    with watch_stages(subject, golden["train_forward_stages"] if watched else {}) as stages:
        loss, logit = take_step(subject, golden)
    differences = {}
    differences["logits"] = gold.difference(logit.tolist(), golden["logits"])
    differences["loss"] = gold.relative_difference(loss, golden["loss"])
    differences["running statistics"] = _buffers(subject, golden)
    column = f"{name_of(subject.dtype)} {'by layer' if watched else 'as used'}"
    limit = TRAINING_LIMIT if subject.dtype == torch.float64 else stage_limit_float32
    findings = [Finding(table, column, stage, d, limit) for stage, d in stages.items()]
    findings += [Finding(table, column, row, d, TRAINING_LIMIT) for row, d in differences.items()]
    limit = TRAINING_LIMIT if subject.dtype == torch.float64 else GRADIENT_LIMIT_FLOAT32
    row = f"{len(golden['grad_l2_norm'])} gradient norms"
    return [*findings, Finding(table, column, row, _gradients(subject, golden), limit)]


def take_step(subject: Subject, golden: Mapping[str, Any]) -> tuple[float, Tensor]:
    """Run the golden training batch forward and backward, dropout off; steps no optimiser.

    Args:
        subject: The network; left in training mode, with fresh gradients.
        golden: An entry with the size of the clips.

    Returns:
        The loss and the logits, shape (2,).
    """
    network = subject.network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    network.zero_grad()
    clips = torch.cat([subject.clip(name, golden) for name in ("clip0", "clip1")])
    logit = subject.logit(network(clips))
    label = torch.tensor([0.0, 1.0], dtype=logit.dtype)
    loss = F.binary_cross_entropy_with_logits(logit, label)
    torch.autograd.backward(loss)
    return loss.item(), logit.detach()


def _gradients(subject: Subject, golden: Mapping[str, Any]) -> float:
    parameters = dict(subject.network.named_parameters())
    if {subject.official_keys[key] for key in golden["grad_l2_norm"]} != set(parameters):
        return float("inf")
    found = []
    for key, norm in golden["grad_l2_norm"].items():
        gradient = parameters[subject.official_keys[key]].grad
        got = float("nan") if gradient is None else gradient.norm().item()
        found.append(gold.relative_difference(got, norm))
    return max(found)


def _buffers(subject: Subject, golden: Mapping[str, Any]) -> float:
    buffers = dict(subject.network.named_buffers())
    found = [
        gold.difference(buffers[subject.official_keys[key]][: len(values)].tolist(), values)
        for key, values in golden["bn_buffers_after_forward"].items()
    ]
    counters = [v for key, v in buffers.items() if key.endswith("num_batches_tracked")]
    steps = golden["num_batches_tracked_after"]
    return max(found) if all(int(counter) == steps for counter in counters) else float("inf")


def name_of(dtype: torch.dtype) -> str:
    """Name a dtype as users do: `float32`."""
    return str(dtype).removeprefix("torch.")


def render(findings: Sequence[Finding]) -> str:
    """Lay findings out: a table for each heading, a row a stage, a column a variant and dtype."""
    lines = []
    for table in dict.fromkeys(finding.table for finding in findings):
        cells = {(f.row, f.column): f for f in findings if f.table == table}
        columns = list(dict.fromkeys(column for _, column in cells))
        rows = list(dict.fromkeys(row for row, _ in cells))
        first, others = max(map(len, rows)), max(12, *(len(column) for column in columns))
        lines += [table, " " * first + "".join(f"  {column:>{others}}" for column in columns)]
        for row in rows:
            texts = [_cell(cells.get((row, column))) for column in columns]
            lines.append(f"{row:<{first}}" + "".join(f"  {text:>{others}}" for text in texts))
        lines.append("")
    failed = [finding for finding in findings if not finding.passed]
    lines += [
        f"FAIL {f.table}, {f.column}, {f.row}: {f.difference:.1e} > {f.limit:.0e}" for f in failed
    ]
    verdict = "FAIL" if failed or not findings else "PASS"
    lines.append(f"{verdict}: {len(findings) - len(failed)} of {len(findings)} within the limits.")
    return "\n".join(lines)


def _cell(finding: Finding | None) -> str:
    if finding is None:
        return "-"
    return f"{finding.difference:.1e}" + ("" if finding.passed else " FAIL")
