"""Splits of which no two share a person, made and mended."""

from pathlib import PurePosixPath

from datamodules.datasets.leaks import split_people
from datamodules.datasets.records import SourceVideo


def video(name: str, *groups: str, split: str = "", label: int = 1) -> SourceVideo:
    return SourceVideo(
        path=PurePosixPath(f"{name}.mp4"), label=label, method=None, groups=groups, split=split
    )


def groups_of(videos: list[SourceVideo]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for each in videos:
        found.setdefault(each.split, set()).update(each.groups)
    return found


def no_overlap(videos: list[SourceVideo]) -> bool:
    found = list(groups_of(videos).values())
    return sum(map(len, found)) == len(set.union(*found))


def swapped(people: int) -> list[SourceVideo]:
    """Everybody is swapped with everybody: one connected component."""
    names = [f"p{n}" for n in range(people)]
    videos = [video(a, a, label=0) for a in names]
    return videos + [video(f"{a}_{b}", a, b) for a in names for b in names if a != b]


def test_people_are_dealt_out_where_swaps_tie_everybody() -> None:
    notes: list[str] = []
    videos = swapped(20)
    kept = split_people(videos, True, notes)
    assert no_overlap(kept)
    assert {split: len(found) for split, found in groups_of(kept).items()} == {
        "test": 3,
        "val": 3,
        "train": 14,
    }
    assert len(kept) == 20 + 14 * 13 + 3 * 2 * 2
    assert f"; {len(videos) - len(kept)} video(s) that show people of two splits" in notes[0]
    assert split_people(videos[::-1], True, [])[::-1] == kept


def test_components_stay_whole_where_there_are_enough() -> None:
    videos = [v for n in range(20) for v in (video(f"r{n}", f"g{n}"), video(f"f{n}", f"g{n}"))]
    notes: list[str] = []
    kept = split_people(videos, True, notes)
    assert len(kept) == len(videos)
    assert no_overlap(kept)
    assert "made here, by people or footage" in notes[0]


def test_given_splits_give_way_to_test_then_val() -> None:
    videos = [
        video("a", "1", split="test"),
        video("b", "1", "2", split="train"),
        video("c", "2", split="train"),
        video("d", "1", "3", split="val"),
        video("e", "4", split="val"),
        video("f", "4", "5", split="train"),
    ]
    notes: list[str] = []
    kept = split_people(videos, True, notes)
    assert [each.path.stem for each in kept] == ["a", "c", "e"]
    assert sorted(line[:1] for line in notes) == ["1", "2"]


def test_val_is_made_of_train_only_where_the_data_set_has_none() -> None:
    videos = [video(f"t{n}", f"t{n}", split="train", label=n % 2) for n in range(20)]
    videos.append(video("x", "x", split="test"))
    assert set(groups_of(split_people(videos, True, []))) == {"train", "test"}
    made = groups_of(split_people(videos, False, []))
    assert len(made["test"]) == 1
    assert len(made["val"]) in (2, 3)
    assert no_overlap(split_people(videos, False, []))
