"""DeepfakeBench's way of counting, for comparison with its published tables and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.evaluation.ledgers import sigmoid
from lightning_modules.metrics import roc_auc

if TYPE_CHECKING:
    from experiments.evaluation.ledgers import Evaluation


def deepfakebench_video_auc(evaluation: Evaluation) -> float:
    """Return what DeepfakeBench prints as "video AUC" (training/metrics/utils.py, 8a4a7bf).

    Of models that score clips that is the AUC of clips. Of those that score frames, frames are
    grouped by the name of their folder, whatever the method: the four fakes of one pair of FF++
    become one video, and a group is real unless all of it is fake.

    Args:
        evaluation: Any; the folder is the last part of `video_id`.
    """
    if not len(evaluation.frame_logit):
        return roc_auc(evaluation.label[evaluation.clip_video], evaluation.clip_logit)
    name = evaluation.videos["video_id"].str.split("/").list.last()
    folder = np.unique(name.to_numpy(), return_inverse=True)[1][evaluation.frame_video]
    present, folder = np.unique(folder, return_inverse=True)
    count = np.bincount(folder, minlength=len(present))
    score = np.bincount(folder, weights=sigmoid(evaluation.frame_logit)) / count
    label = np.bincount(folder, weights=evaluation.label[evaluation.frame_video]) == count
    return roc_auc(label.astype(np.int64), score)
