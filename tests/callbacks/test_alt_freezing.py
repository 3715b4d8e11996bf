"""Frozen means frozen: what moves in which step, on one process."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.strategies import DDPStrategy

from callbacks import AltFreezing, LastCheckpoint
from tests.support.freezing import (
    CYCLE,
    OPTIMIZERS,
    SCHEDULE,
    STEPS,
    Crash,
    CrashError,
    FactorizedModule,
    Moves,
    fit,
)
from tests.support.trainers import tiny_trainer

if TYPE_CHECKING:
    from pathlib import Path

PRECISIONS = ("32-true", "bf16-mixed")


def state(module: LightningModule) -> dict[str, torch.Tensor]:
    return dict(module.state_dict())


def same(first: LightningModule, second: LightningModule) -> bool:
    pairs = zip(state(first).values(), state(second).values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("freezing", "phases"),
    [
        (AltFreezing(2, 1), "sstsst"),
        (AltFreezing(2, 1, start="temporal_frozen"), "tsstsst"),
        (AltFreezing(), "s" * 20 + "t" + "s" * 20 + "t"),
    ],
    ids=["2:1", "the other first", "as published"],
)
def test_the_schedule_is_a_function_of_the_step(freezing: AltFreezing, phases: str) -> None:
    assert "".join(freezing.phase_at(step)[0] for step in range(len(phases))) == phases


@pytest.mark.parametrize(
    ("optimizer", "accumulated", "precision"), itertools.product(OPTIMIZERS, (1, 3), PRECISIONS)
)
def test_frozen_means_frozen(
    tmp_path: Path, optimizer: str, accumulated: int, precision: Any
) -> None:
    moves = Moves()
    fit(
        tmp_path,
        FactorizedModule(optimizer),
        *(AltFreezing(*CYCLE), moves),
        precision=precision,
        accumulate_grad_batches=accumulated,
    )
    assert moves.letters == SCHEDULE


def test_without_it_all_move_in_each_step(tmp_path: Path) -> None:
    moves = Moves()
    fit(tmp_path, FactorizedModule(), moves)
    assert moves.letters == "ST" * STEPS


def test_gradients_that_are_cleared_to_zeros_do_not_move_frozen_weights(tmp_path: Path) -> None:
    moves = Moves()
    fit(tmp_path, FactorizedModule(zeros=True), AltFreezing(*CYCLE), moves)
    assert moves.letters == SCHEDULE


def test_clipping_sees_trained_weights_only(tmp_path: Path) -> None:
    moves = Moves()
    fit(tmp_path, FactorizedModule(), AltFreezing(*CYCLE), moves, gradient_clip_val=0.01)
    assert moves.letters == SCHEDULE


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize(
    ("optimizer", "separate"), [("sgd", False), ("sgd", True), ("adamw", False)]
)
@pytest.mark.parametrize("step", [4, 6])
def test_a_resumed_run_goes_on_in_mid_cycle(
    tmp_path: Path, optimizer: str, separate: bool, accumulated: int, step: int
) -> None:
    def run(name: str, *more: Any, **options: Any) -> tuple[LightningModule, str]:
        module, moves = FactorizedModule(optimizer), Moves()
        freezing = AltFreezing(*CYCLE, separate_momentum=separate)
        callbacks = (freezing, moves, *more, LastCheckpoint(every_n_steps=1))
        options |= {"accumulate_grad_batches": accumulated, "enable_checkpointing": True}
        try:
            fit(tmp_path / name, module, *callbacks, **options)
        except CrashError:
            assert all(p.requires_grad for p in module.parameters())
        return module, moves.letters

    whole, letters = run("whole")
    assert letters == SCHEDULE
    _, before = run("part", Crash(step))
    assert before == SCHEDULE[:step]
    last = tmp_path / "part" / "checkpoints" / "last.ckpt"
    resumed, after = run("part", ckpt_path=last)
    assert after == SCHEDULE[step:]
    assert same(whole, resumed)


class TwoOptimizers(FactorizedModule):
    """The authors' way: two optimisers, one of which steps."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        kind, options = OPTIMIZERS["sgd"]
        for_t = [p for n, p in self.named_parameters() if not n.startswith("spatial")]
        for_s = [p for n, p in self.named_parameters() if not n.startswith("temporal")]
        return kind(for_t, **options), kind(for_s, **options)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.zero_grad()
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        self.optimizers()[SCHEDULE[batch_idx] == "S"].step()  # type: ignore[index]


def test_separate_momentum_equals_two_optimizers(tmp_path: Path) -> None:
    theirs, ours, single = TwoOptimizers(), FactorizedModule(), FactorizedModule()
    fit(tmp_path, theirs)
    fit(tmp_path, ours, AltFreezing(*CYCLE, separate_momentum=True))
    fit(tmp_path, single, AltFreezing(*CYCLE))
    assert same(theirs, ours)
    assert not same(theirs, single)


def test_a_second_fit_starts_without_the_first_one_s_momenta(tmp_path: Path) -> None:
    freezing, weights = AltFreezing(*CYCLE, separate_momentum=True), []
    for _ in range(2):
        module = FactorizedModule()
        fit(tmp_path, module, freezing)
        weights.append(module)
    assert same(*weights)


def test_what_the_user_froze_stays_frozen(tmp_path: Path) -> None:
    module = FactorizedModule()
    module.stem.requires_grad_(False)
    before = module.stem.weight.clone()
    fit(tmp_path, module, AltFreezing(*CYCLE))
    assert torch.equal(module.stem.weight, before)
    assert not any(p.requires_grad for p in module.stem.parameters())
    others = [p for n, p in module.named_parameters() if not n.startswith("stem")]
    assert all(p.requires_grad for p in others)


def test_it_logs_the_alternation(tmp_path: Path) -> None:
    logger = CSVLogger(str(tmp_path), name="", version="")
    module = FactorizedModule()
    fit(tmp_path, module, AltFreezing(4, 1), logger=logger, log_every_n_steps=5, steps=10)
    header, *lines = (tmp_path / "metrics.csv").read_text().splitlines()
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    # Of each interval of five steps the first step of either phase.
    assert [(r["step"], float(r["altfreezing/phase"])) for r in rows] == [
        *(("0", 0), ("4", 1), ("5", 0), ("9", 1))
    ]
    for row in rows:
        spatial, temporal, shared = (
            float(row[f"altfreezing/update_{axis}"]) for axis in ("spatial", "temporal", "shared")
        )
        assert shared > 0
        assert (spatial > 0, temporal > 0) == (row["step"] in "49", row["step"] in "05")


def test_the_logged_norm_is_that_of_the_change(tmp_path: Path) -> None:
    logger = CSVLogger(str(tmp_path), name="", version="")
    module = FactorizedModule()
    before = module.temporal.weight.detach().clone(), module.temporal.bias.detach().clone()  # type: ignore[union-attr]
    fit(tmp_path, module, AltFreezing(), logger=logger, log_every_n_steps=1, steps=1)
    after = module.temporal.weight.detach(), module.temporal.bias.detach()  # type: ignore[union-attr]
    change = torch.cat([(a - b).flatten() for a, b in zip(after, before, strict=True)]).norm()
    header, line = (tmp_path / "metrics.csv").read_text().splitlines()
    row = dict(zip(header.split(","), line.split(","), strict=True))
    assert float(row["altfreezing/update_temporal"]) == pytest.approx(float(change), rel=1e-6)


class OneAxis(FactorizedModule):
    """No trainable temporal convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.temporal.requires_grad_(False)


class Fused(FactorizedModule):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, fused=True)


class Lazy(FactorizedModule):
    """Its temporal weights are made by the first clip."""

    def __init__(self) -> None:
        super().__init__()
        self.temporal = torch.nn.LazyConv3d(4, (3, 1, 1), padding=(1, 0, 0))  # type: ignore[assignment]


def test_weights_that_are_made_by_the_first_clip_are_frozen_too(tmp_path: Path) -> None:
    module, weights = Lazy(), []

    class Keep(Callback):
        def on_train_batch_end(self, *_: Any, **__: Any) -> None:
            weights.append(module.temporal.weight.detach().clone())  # type: ignore[union-attr]

    fit(tmp_path, module, AltFreezing(*CYCLE, start="temporal_frozen"), Keep(), steps=4)
    assert [torch.equal(a, b) for a, b in itertools.pairwise(weights)] == [False, False, True]


class Lbfgs(FactorizedModule):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(self.parameters())


@pytest.mark.parametrize(
    ("module", "options", "reason"),
    [
        (OneAxis, {}, "OneAxis has no trainable temporal"),
        (TwoOptimizers, {}, "TwoOptimizers steps by hand"),
        (lambda: FactorizedModule("adamw"), {"separate_momentum": True}, "not for AdamW"),
        (Fused, {}, "drop fused"),
        (Lbfgs, {}, "LBFGS moves weights without gradient"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    tmp_path: Path, module: Any, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(MisconfigurationException, match=reason) as refused:
        fit(tmp_path, module(), AltFreezing(**options))
    assert "\n" not in str(refused.value)


def test_a_static_graph_is_refused(tmp_path: Path) -> None:
    # Not by a fit: that would leave this process in a process group.
    trainer = tiny_trainer(tmp_path, strategy=DDPStrategy(static_graph=True))
    with pytest.raises(MisconfigurationException, match="drop static_graph"):
        AltFreezing().setup(trainer, FactorizedModule(), "fit")


@pytest.mark.parametrize(
    "arguments", [{"spatial_frozen_steps": 0}, {"temporal_frozen_steps": -1}, {"start": "spatial"}]
)
def test_nonsense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="AltFreezing"):
        AltFreezing(**arguments)
