from __future__ import annotations

from pathlib import Path

import pytest

from experiments.anchors import LEVELS, read_anchors, shown_beside
from experiments.dataset_names import plain
from experiments.errors import UsageError

TABLE = """
- {paper: p, protocol: q, level: video, metric: AUC, read: here, datasets: [a, b], values: {m: ROW}}
"""


def test_every_published_number_says_where_it_is_from() -> None:
    anchors = read_anchors()
    assert len(anchors) > 300
    for anchor in anchors:
        assert all(anchor[:6])
        assert anchor.read
        assert anchor.level in LEVELS
        assert 0.4 < anchor.value <= 1
    assert len({anchor[:6] for anchor in anchors}) == len(anchors)


def test_numbers_of_one_method_stay_apart_by_their_protocol() -> None:
    found = [
        (anchor.level, anchor.value)
        for anchor in shown_beside(read_anchors(), {"Celeb-DF-v2"})
        if "HFF" in anchor.method
    ]
    assert sorted(found) == [("frame", 0.7552), ("frame", 0.794), ("video", 0.84)]


def test_spellings_of_a_data_set_meet() -> None:
    assert plain("Celeb-DF-v2") == plain("celeb_df_v2")
    assert plain("FaceForensics++") == plain("ffpp")
    assert plain("DeeperForensics-1.0") == plain("deeperforensics")
    shown = shown_beside(read_anchors(), {"FaceForensics++"})
    assert {anchor.dataset for anchor in shown} == {"ffpp_c23", "ffpp_c40"}
    assert shown_beside(read_anchors(), {"mine"}) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TABLE.replace("ROW", "[0.5]"), "table 1: m needs 2 numbers"),
        (TABLE.replace("ROW", "[0.5, 95.0]"), "m on b is 95.0, not in 0..1"),
        (TABLE.replace("ROW", "[0.5, null]").replace("video", "scene"), "level 'scene' is none of"),
        (TABLE.replace("ROW", "[0.5, 0.5]").replace("read: here, ", ""), "read is missing"),
        ("a: 1", "not a list of tables"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "anchors.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_anchors(path)
