from __future__ import annotations

from experiments.summary import metric_rows


def test_one_test_set_is_one_row() -> None:
    metrics = {"val/video_auc": 0.8, "test/video_auc": 0.9, "test/num_videos": 7.0, "train/loss": 1}
    assert metric_rows(metrics, ["test"]) == {
        "val": {"video_auc": 0.8},
        "test": {"video_auc": 0.9, "num_videos": 7.0},
    }


def test_a_test_set_with_a_name_keeps_it() -> None:
    assert metric_rows({"test/dfdc/video_auc": 0.7}, ["dfdc"]) == {"dfdc": {"video_auc": 0.7}}


def test_several_test_sets_keep_their_names() -> None:
    metrics = {"test/celeb_df/video_auc": 0.7, "test/ffpp/video_auc": 0.9}
    assert metric_rows(metrics, ["celeb_df", "ffpp"]) == {
        "celeb_df": {"video_auc": 0.7},
        "ffpp": {"video_auc": 0.9},
    }


def test_sets_that_were_not_evaluated_are_left_out() -> None:
    assert metric_rows({"train/loss": 0.3}, ["test"]) == {}
