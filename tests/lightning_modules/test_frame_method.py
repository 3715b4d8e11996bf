from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from datamodules import FolderDataModule
from lightning_modules import FrameMethod
from lightning_modules.outputs import FrameScores
from tests.support.stores import write_store
from tests.support.trainers import tiny_trainer

if TYPE_CHECKING:
    from pathlib import Path

    from lightning_modules.pooling import Rule

B, T, SIZE = 3, 4, 8


class _Brightness(FrameMethod):
    """Score a frame by its channels' means."""

    def __init__(self, num_frames: int = T, **options: Any) -> None:
        optimizer = partial(torch.optim.SGD, lr=0.1)
        super().__init__(optimizer, num_frames, SIZE, **options)
        self.net = nn.Linear(3, 1, bias=False)
        self.net.weight.data = torch.tensor([[1.0, 2.0, 3.0]])

    def score_frames(self, frames: torch.Tensor) -> FrameScores:
        means = frames.mean(dim=(2, 3))
        return FrameScores(self.net(means).squeeze(1), features=means, extras={"means": means})


@pytest.fixture
def clip() -> torch.Tensor:
    return torch.randn(B, 3, T, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def test_frames_of_a_clip_stay_together_and_in_order(clip: torch.Tensor) -> None:
    output = _Brightness()(clip)
    means = clip.mean(dim=(3, 4)).transpose(1, 2)  # (B, T, 3)
    torch.testing.assert_close(output.frame_logit, means @ torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(output.extras["means"], means.flatten(0, 1))
    torch.testing.assert_close(output.features, means.mean(1))


@pytest.mark.parametrize(("rule", "count"), [("mean", T), ("max", 1), ("top_k", 2)])
def test_a_clip_is_pooled_by_the_rule(clip: torch.Tensor, rule: Rule, count: int) -> None:
    output = _Brightness(frame_rule=rule, top_k=2)(clip)
    highest = output.frame_logit.sigmoid().sort(dim=1, descending=True).values[:, :count]
    torch.testing.assert_close(output.logit.sigmoid(), highest.mean(1))


def test_every_frame_is_an_example_with_the_label_of_its_clip(clip: torch.Tensor) -> None:
    module, label = _Brightness(), torch.tensor([0.0, 1.0, 0.0])
    output = module(clip)
    losses = module.losses(output, {"label": label})  # type: ignore[typeddict-item]
    signs = 1 - 2 * label[:, None]
    torch.testing.assert_close(losses["bce"], F.softplus(output.frame_logit * signs).mean())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    counts: Any = {(split, label): 2 for split in ("train", "val", "test") for label in (0, 1)}
    write_store(folder, counts)
    return folder


@pytest.mark.parametrize("num_frames", [1, 4])
def test_figures_of_frames_stand_beside_those_of_videos(
    store: Path, tmp_path: Path, num_frames: int
) -> None:
    data = FolderDataModule(
        root=store,
        num_frames=num_frames,
        image_size=SIZE,
        batch_size=4,
        num_workers=0,
        eval_clips_per_video=6,
    )
    trainer = tiny_trainer(tmp_path, max_epochs=1)
    module = _Brightness(num_frames, video_rule="max")
    trainer.fit(module, datamodule=data)
    assert "val/frame_auc" in trainer.callback_metrics
    trainer.test(module, datamodule=data, verbose=False)
    figures = {k: float(v) for k, v in trainer.callback_metrics.items()}
    assert figures["test/num_frames"] == figures["test/num_clips"] * num_frames
    if num_frames == 1:
        assert figures["test/frame_auc"] == figures["test/clip_auc"]
    frame_auc, video_auc = _by_hand(module.eval(), data)
    assert figures["test/frame_auc"] == pytest.approx(frame_auc, abs=1e-6)
    assert figures["test/video_auc"] == pytest.approx(video_auc, abs=1e-6)


def _by_hand(module: FrameMethod, data: FolderDataModule) -> tuple[float, float]:
    """Give the AUC of frames, and that of videos by their highest clip."""
    frames: list[tuple[float, float]] = []
    videos: dict[int, tuple[float, float]] = {}
    for batch in data.test_dataloader():
        with torch.no_grad():
            output = module(module.normalise(batch["clip"]))
        for i, label in enumerate(batch["label"].tolist()):
            row, prob = int(batch["video_index"][i]), float(output.logit[i].double().sigmoid())
            videos[row] = max(videos.get(row, (0.0, 0.0)), (prob, label))
            frames += [(float(f), label) for f in output.frame_logit[i]]
    return _auc(frames), _auc(list(videos.values()))


def _auc(pairs: list[tuple[float, float]]) -> float:
    real = [score for score, label in pairs if label == 0]
    fake = [score for score, label in pairs if label == 1]
    wins = [1.0 if f > r else 0.5 if f == r else 0.0 for f in fake for r in real]
    return sum(wins) / len(wins)
