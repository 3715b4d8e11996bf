from __future__ import annotations

import resource
import tempfile
from typing import TYPE_CHECKING

import pytest
import torch

from callbacks import AtomicCheckpointIO
from tests.support.trainers import TinyData, TinyModule, tiny_trainer

if TYPE_CHECKING:
    from pathlib import Path


def test_a_trainer_s_checkpoint_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the plugin this folder would be written first.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "there is no such folder"))
    trainer = tiny_trainer(tmp_path, plugins=[AtomicCheckpointIO()])
    module = TinyModule()
    trainer.fit(module, datamodule=TinyData())
    path = tmp_path / "deep" / "er" / "a.ckpt"
    trainer.save_checkpoint(path)
    assert list(path.parent.iterdir()) == [path]
    weight = torch.load(path, weights_only=True)["state_dict"]["weight"]
    assert torch.equal(weight, module.weight)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    plugin = AtomicCheckpointIO()
    plugin.save_checkpoint({"step": 1}, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # as a full disk would
    try:
        with pytest.raises(OSError, match=r"File too large: .*last\.ckpt"):
            plugin.save_checkpoint({"step": 2, "tensor": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == [path]
    assert torch.load(path, weights_only=True) == {"step": 1}
