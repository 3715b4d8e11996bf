"""One LightningCLI for all experiments: run folder, loggers, strategy, the final table."""

from __future__ import annotations

import math
from argparse import ArgumentError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar, RichProgressBar
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_info, rank_zero_only

import callbacks
import lightning_modules
from datamodules import VideoDataModule
from experiments.errors import UsageError, parser_reason
from experiments.loggers import finish_loggers, make_loggers, quieten
from experiments.protocols.apart import check_test
from experiments.shorthand import STAGES
from experiments.summary import print_summary
from experiments.wandb_media import log_checkpoints, log_media
from lightning_modules import ForgeryModule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytorch_lightning import Trainer

    from experiments.shorthand import Shorthand


class ForgeryCLI(LightningCLI):
    """The command line of a run.

    Args:
        typed: The understood command line.
        folder: Where the run writes.
        args: Arguments for the parser, the stage first.
    """

    def __init__(self, typed: Shorthand, folder: Path, args: ArgsType) -> None:
        self.typed = typed
        self.folder = folder
        _import_known()
        super().__init__(
            ForgeryModule,
            VideoDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            # Ours is written once, before anything runs, and not again by a test.
            save_config_callback=None,
            # A module builds its own optimiser from the callable in its YAML.
            auto_configure_optimizers=False,
            # A mistake is raised, and said in one line, not in a page of usage.
            parser_kwargs={name: {"exit_on_error": False} for name in STAGES}
            | {"exit_on_error": False},
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the checkpoint callback and tie the network's clip size to the data's."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_argument(
            "--experiment",
            type=str,
            default=None,
            help="name under which runs are grouped; that of the YAML",
        )
        for name in ("num_frames", "image_size"):
            parser.link_arguments(f"data.init_args.{name}", f"model.init_args.{name}")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse our expanded arguments, not the process's: DDP children expand their own.

        Raises:
            UsageError: If a key or value is none of the parser's.
        """
        assert isinstance(args, list)
        if "exp" in self.typed.options:
            args = [*args, "--experiment", self.typed.options["exp"]]
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            raise UsageError(
                f"{parser_reason(str(error))}; every setting: "
                f"python -m experiments.run {self.typed.stage} --print_config"
            ) from error
        experiment = self.config[self.config.subcommand].experiment
        if experiment is not None:
            # A run that is tested again belongs to its experiment's group, too.
            self.typed.options.setdefault("exp", experiment)

    def _parse_ckpt_path(self) -> None:
        """Leave the model's arguments to the configuration; checkpoints carry tensors only."""

    def before_instantiate_classes(self) -> None:
        """Send everything that is written into the run folder."""
        config = self.config[self.subcommand]
        if self.subcommand == "test":
            self._check_test(config.data.get("init_args") or {})
        config.checkpoint.dirpath = str(self._fit_folder() / "checkpoints")
        config.trainer.default_root_dir = str(self.folder)
        if not any(word.startswith("--trainer.precision") for word in self.typed.rest):
            config.trainer.precision = _available_precision(
                config.trainer.precision, config.trainer.accelerator
            )
        if "verbose" in config:
            config.verbose = False  # our table follows
        if config.ckpt_path:
            # The checkpoint has the weights; the file they once came from may be gone.
            config.model.init_args.weights = None
        if self.subcommand == "fit" and "resume" not in self.typed.options:
            self._save_config()

    def instantiate_classes(self) -> None:
        """Build method, data and trainer; a value that a constructor refuses is said in one line.

        Raises:
            UsageError: If a setting parses but cannot be built with.
        """
        try:
            super().instantiate_classes()
        except (ValueError, RuntimeError) as error:  # the latter: a callback that is there twice
            reason = parser_reason(str(error))
            raise UsageError(f"a setting cannot be used: {reason}") from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add loggers and progress bar."""
        trainer = self._get(self.config_init, "trainer")
        chosen = trainer.get("callbacks") or []
        if trainer.get("fast_dev_run"):
            kwargs["logger"] = CSVLogger(str(self.folder))  # Lightning puts a dummy in its place
        elif trainer.get("logger") in (None, True):
            kwargs["logger"] = make_loggers(self.typed, self.folder, self.subcommand or "fit")
        if trainer.get("enable_progress_bar") is not False and not any(
            isinstance(c, ProgressBar) for c in chosen
        ):
            chosen.append(RichProgressBar(leave=False))
        return super().instantiate_trainer(**kwargs, callbacks=chosen)

    def _check_test(self, data: Mapping[str, Any]) -> None:
        run = self.typed.options.get("run")
        if run and (line := check_test(Path(run), data)):
            rank_zero_info(f"note: {line}")

    def _fit_folder(self) -> Path:
        run = self.typed.options.get("run")
        return Path(run).resolve() if run and self.subcommand != "fit" else self.folder

    @rank_zero_only
    def _save_config(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._parser(self.subcommand).save(
            self.config[self.subcommand],
            str(self.folder / "config.yaml"),
            skip_none=False,
            overwrite=True,
            multifile=False,
        )


def _import_known() -> None:
    """Import every method and callback: the parser knows imported classes by their short names."""
    for home in (lightning_modules, callbacks):
        for name in home.__all__:
            getattr(home, name)


def _available_precision(wanted: str | int | None, accelerator: Any) -> str | int | None:
    """Give the mixed precision of a recipe that the device has in hardware.

    Args:
        wanted: What the recipe asks for.
        accelerator: As the trainer takes it.

    Returns:
        `wanted`, or for a mixed one without bfloat16 on the GPU `16-mixed`, and without a GPU
        `32-true`.
    """
    if wanted not in ("bf16-mixed", "16-mixed"):
        return wanted
    if accelerator not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return "32-true"
    has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return wanted if has_bfloat16 else "16-mixed"


def run_stage(typed: Shorthand, args: list[str], folder: Path) -> None:
    """Run one stage, test after a fit, and print the table and where everything lies.

    Args:
        typed: The understood command line.
        args: Arguments for the parser, the stage first.
        folder: Where the run writes.
    """
    quieten(typed.stage)
    try:
        cli = ForgeryCLI(typed, folder, args)
        _test_and_summarise(cli)
    finally:
        finish_loggers()


def _test_and_summarise(cli: ForgeryCLI) -> None:
    trainer, typed = cli.trainer, cli.typed
    if typed.stage == "fit" and "no_test" not in typed.flags and not trainer.interrupted:
        trainer.test(
            cli.model,
            datamodule=cli.datamodule,
            ckpt_path=_tested_checkpoint(trainer),
            verbose=False,  # our table follows
        )
    if not getattr(trainer, "fast_dev_run", False):
        log_media(trainer.loggers, cli.folder)
        if typed.stage == "fit":
            log_checkpoints(trainer.loggers, cli.folder)
        if typed.stage != "predict":
            print_summary(trainer, cli.datamodule, cli.folder)


def _tested_checkpoint(trainer: Trainer) -> str | None:
    if getattr(trainer, "fast_dev_run", False):
        return None
    best = next(
        c
        for c in trainer.checkpoint_callbacks
        if isinstance(c, ModelCheckpoint) and c.monitor is not None
    )
    score = best.best_model_score
    if best.best_model_path and score is not None and math.isfinite(float(score)):
        return best.best_model_path
    # Nothing could be chosen (one class only in the validation set, say): test what was trained.
    return None
