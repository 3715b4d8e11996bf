"""Alternate freezing: spatial and temporal weights learn by turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback
from pytorch_lightning.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
)

from callbacks.axis_groups import AxisGroups, split_by_axis

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytorch_lightning import LightningModule, Trainer
    from torch import Tensor, nn
    from torch.optim import Optimizer

Phase = Literal["spatial_frozen", "temporal_frozen"]

#: Where SGD keeps a parameter's momentum.
_BUFFER = "momentum_buffer"


class AltFreezing(Callback):
    """Freeze the spatial weights for some optimiser steps, then the temporal ones, and so on.

    Wang, Bao, Zhou, Wang, Li: "AltFreezing for More General Video Face Forgery Detection",
    CVPR 2023, https://arxiv.org/abs/2307.08317. A network falls for spatial artifacts first; 20
    steps without them for one step without temporal ones let it learn both. `split_by_axis` says
    which weights are which; all others, norms and head too, are trained in every step.

    The phase is a function of the number of optimiser steps alone, so that it is the same on all
    processes, under gradient accumulation and after a resume. Frozen weights need no gradient, get
    none (not zeros, which would let momentum and weight decay move them), and stay as they are to
    the last bit with any optimiser of PyTorch but LBFGS, which takes no gradient for zeros and is
    refused. Running statistics of norms go on, as in the authors' code.
    Weights that need no gradient when training starts stay so and are no part of it.

    One optimiser steps all weights, as in DeepfakeBench's port, and the numbers of steps are that
    port's as well. The authors' released code has two SGD optimisers and steps one of them, over
    temporal and shared or over spatial and shared weights: a shared weight then has two momenta,
    and each knows the gradients of its own phase only. `separate_momentum` does that with one
    optimiser. Their loop was never released; its setting `ALTER_FREQ: 20` may also mean 20 : 20.

    Logs, at the loggers' interval for each phase, `altfreezing/phase` (0 while the spatial weights
    are frozen, 1 while the temporal ones are) and `altfreezing/update_<group>`, the Euclidean norm
    of what the step changed. In such a step the first process keeps a copy of the weights.

    Args:
        spatial_frozen_steps: Optimiser steps in a row with frozen spatial weights.
        temporal_frozen_steps: Optimiser steps in a row with frozen temporal weights.
        start: The phase of the first step.
        separate_momentum: Keep a momentum of each phase for shared weights; SGD only.

    Raises:
        ValueError: If a number of steps is below 1, or `start` is no phase.
    """

    def __init__(
        self,
        spatial_frozen_steps: int = 20,
        temporal_frozen_steps: int = 1,
        start: Phase = "spatial_frozen",
        separate_momentum: bool = False,
    ) -> None:
        if min(spatial_frozen_steps, temporal_frozen_steps) < 1:
            raise ValueError(
                "AltFreezing: each phase needs at least 1 step, not "
                f"{spatial_frozen_steps} and {temporal_frozen_steps}"
            )
        if start not in get_args(Phase):
            raise ValueError(f"AltFreezing: start is one of {get_args(Phase)}, not {start!r}")
        self.spatial_frozen_steps = spatial_frozen_steps
        self.temporal_frozen_steps = temporal_frozen_steps
        self.start = start
        self.separate_momentum = separate_momentum
        self._groups = AxisGroups({}, {}, {})
        self._phase: Phase | None = None
        self._momenta = _Momenta()
        self._measured: dict[Phase, int] = {}
        self._before: list[list[Tensor]] = []

    def phase_at(self, step: int) -> Phase:
        """Say what is frozen in an optimiser step, counted from 0."""
        position = step % (self.spatial_frozen_steps + self.temporal_frozen_steps)
        if self.start == "spatial_frozen":
            first = position < self.spatial_frozen_steps
        else:
            first = position >= self.temporal_frozen_steps
        return "spatial_frozen" if first else "temporal_frozen"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Prepare data-parallel training for gradients that come and go.

        Raises:
            MisconfigurationException: If the strategy keeps parts of weights, or a fixed graph.
        """
        if stage != "fit":
            return
        # What an earlier fit left; a checkpoint's comes after this.
        self._momenta = _Momenta()
        strategy = trainer.strategy
        if isinstance(strategy, DeepSpeedStrategy | FSDPStrategy | ModelParallelStrategy):
            raise MisconfigurationException(
                f"AltFreezing cannot freeze the sharded weights of {type(strategy).__name__}; "
                "use --strategy ddp"
            )
        if isinstance(strategy, DDPStrategy):
            if strategy._ddp_kwargs.get("static_graph"):
                raise MisconfigurationException(
                    "AltFreezing changes which weights have gradients; drop static_graph"
                )
            # Without it the first step after a change would wait for gradients that never come;
            # it costs less than computing and dropping them. [ours, measured]
            strategy._ddp_kwargs["find_unused_parameters"] = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the groups.

        Raises:
            MisconfigurationException: If the network has no spatial or no temporal weights, or
                the optimisation is one that cannot be followed.
        """
        if not pl_module.automatic_optimization:
            # With several optimisers, or steps, the number of steps is not that of updates.
            raise MisconfigurationException(
                f"AltFreezing counts the steps of one optimiser, and {type(pl_module).__name__} "
                "steps by hand; use automatic optimisation"
            )
        try:
            self._groups = split_by_axis(pl_module)
        except ValueError as error:
            raise MisconfigurationException(f"AltFreezing: {error}") from error
        _check_optimizer(trainer.optimizers[0], self.separate_momentum)
        self._momenta.attach(trainer.optimizers[0], self._groups.shared)
        self._phase = None
        self._measured.clear()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Enter the phase of the coming step.

        Not earlier: weights that are frozen before they are wrapped for data-parallel training
        are left out of it for good, and drift apart.
        """
        phase = self.phase_at(trainer.global_step)
        if phase == self._phase:
            return
        self._phase = phase
        _require_grad(self._groups.spatial, phase != "spatial_frozen")
        _require_grad(self._groups.temporal, phase != "temporal_frozen")
        if self.separate_momentum:
            self._momenta.enter(phase)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Make sure that frozen weights have no gradient, and remember weights to be compared."""
        frozen = self._phase == "spatial_frozen"
        for parameter in (self._groups.spatial if frozen else self._groups.temporal).values():
            parameter.grad = None  # a module that zeroes gradients in place would leave zeros
        if self._is_measured(trainer):
            self._before = [
                [parameter.detach().clone() for parameter in group.values()]
                for group in self._groups
            ]

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Log the phase, and how far each group went."""
        if not self._before:
            return
        before, self._before = self._before, []
        norms = [
            _distance(group.values(), old) for group, old in zip(self._groups, before, strict=True)
        ]
        names = [f"altfreezing/update_{axis}" for axis in AxisGroups._fields]
        figures = dict(zip(names, torch.stack(norms).tolist(), strict=True))
        figures["altfreezing/phase"] = float(self._phase == "temporal_frozen")
        for logger in trainer.loggers:
            # Lightning counts a step's entries from 0.
            logger.log_metrics(figures, step=trainer.global_step - 1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let all weights require gradients again."""
        self._release()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Let all weights require gradients again."""
        self._release()

    def state_dict(self) -> dict[str, Any]:
        """Return the momenta that the optimiser does not hold; the phase needs no state."""
        return self._momenta.state_dict() if self.separate_momentum else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the momenta of an interrupted run."""
        if self.separate_momentum:
            self._momenta.load_state_dict(state_dict)

    def _is_measured(self, trainer: Trainer) -> bool:
        """Choose the first step of each phase in every logging interval, on the first process."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self._phase is None or not (every and trainer.loggers and trainer.is_global_zero):
            return False
        interval = trainer.global_step // every
        fresh = self._measured.get(self._phase) != interval
        self._measured[self._phase] = interval
        return fresh

    def _release(self) -> None:
        for group in (self._groups.spatial, self._groups.temporal):
            _require_grad(group, True)
        self._phase = None
        self._before = []


class _Momenta:
    """Two momenta for each shared weight: the optimiser holds one, the other is parked here."""

    def __init__(self) -> None:
        self._optimizer: Optimizer | None = None
        self._shared: Mapping[str, nn.Parameter] = {}
        self._phase: Phase | None = None
        self._parked: dict[str, Tensor] = {}

    def attach(self, optimizer: Optimizer, shared: Mapping[str, nn.Parameter]) -> None:
        """Choose whose momenta these are."""
        self._optimizer, self._shared = optimizer, shared

    def enter(self, phase: Phase) -> None:
        """Give the optimiser the momenta of a phase."""
        assert self._optimizer is not None
        # The first phase of a run takes what there is.
        if self._phase in (phase, None):
            self._phase = phase
            return
        self._phase, parked, self._parked = phase, self._parked, {}
        for name, parameter in self._shared.items():
            state = self._optimizer.state[parameter]
            active = state.pop(_BUFFER, None)
            if name in parked:
                state[_BUFFER] = parked[name].to(parameter.device)
            if active is not None:
                self._parked[name] = active

    def state_dict(self) -> dict[str, Any]:
        return {"phase": self._phase, "parked": dict(self._parked)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._phase, self._parked = state["phase"], dict(state["parked"])


def _check_optimizer(optimizer: Optimizer, separate: bool) -> None:
    name, is_sgd = type(optimizer).__name__, isinstance(optimizer, torch.optim.SGD)
    if isinstance(optimizer, torch.optim.LBFGS):
        raise MisconfigurationException(
            f"AltFreezing: {name} moves weights without gradient too; choose another optimiser"
        )
    if separate and not is_sgd:
        raise MisconfigurationException(
            f"AltFreezing: separate_momentum is for torch.optim.SGD, not for {name}; leave it out"
        )
    if is_sgd and any(group.get("fused") for group in optimizer.param_groups):
        # PyTorch's fused kernel takes weights that step for the first time only if all do.
        raise MisconfigurationException(
            f"AltFreezing: fused {name} fails on weights that begin to move later; drop fused"
        )


def _require_grad(group: Mapping[str, nn.Parameter], required: bool) -> None:
    for parameter in group.values():
        parameter.requires_grad = required  # the method of this name refuses lazy weights


def _distance(parameters: Iterable[Tensor], before: Iterable[Tensor]) -> Tensor:
    """Give the Euclidean norm of a difference, shape (), at least float32."""
    norms = [
        torch.linalg.vector_norm(
            new.detach() - old, dtype=torch.promote_types(old.dtype, torch.float32)
        )
        for new, old in zip(parameters, before, strict=True)
    ]
    whole: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return whole
