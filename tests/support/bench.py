"""Miniatures of DeepfakeBench and DF40 in their own folders, with JSON files as distributed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.frame_folders import write_bench_video

FF = "FaceForensics++"
_MANIPULATED = f"{FF}/manipulated_sequences"
#: Label key -> folder of its videos.
FF_FOLDERS = {
    "FF-real": f"{FF}/original_sequences/youtube",
    "FF-DF": f"{_MANIPULATED}/Deepfakes",
    "FF-F2F": f"{_MANIPULATED}/Face2Face",
}
#: Split -> ids of its only pair; the first split has two.
FF_PAIRS = {"train": [("000", "003"), ("005", "010")], "val": [("020", "021")]}
FF_PAIRS["test"] = [("030", "031")]


def windows(paths: Sequence[str], prefix: str = "") -> list[str]:
    r"""Spell paths as the released files do: `.\datasets\set\...`."""
    return [prefix + path.replace("/", "\\") for path in paths]


def write_json(root: Path, name: str, labels: dict[str, Any], key: str = "") -> Path:
    """Write `dataset_json/<name>.json`."""
    file = root / "dataset_json" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({key or name: labels}))
    return file


def write_ff(root: Path, numbers: Sequence[int] = range(0, 120, 10)) -> None:
    """Write FaceForensics++ of two methods in c23 and, of two videos each, c40."""
    labels: dict[str, Any] = {}
    for number, (key, folder) in enumerate(FF_FOLDERS.items()):
        for split, pairs in FF_PAIRS.items():
            names = [f"{a}_{b}" for a, b in pairs] + [f"{b}_{a}" for a, b in pairs]
            if key == "FF-real":
                names = [name for pair in pairs for name in pair]
            for level in ("c23", "c40"):
                videos = labels.setdefault(key, {}).setdefault(split, {}).setdefault(level, {})
                for name in names[: 4 if level == "c23" else 1]:
                    where = f"{folder}/{level}/frames/{name}"
                    frames = write_bench_video(root, where, numbers, seed=400 * number)
                    masks = [frame.replace("frames", "masks") for frame in frames]
                    listed = {"label": key, "frames": windows(frames)}
                    videos[name] = listed | ({} if number == 0 else {"masks": windows(masks)})
    write_json(root, FF, labels)


def write_flat(
    root: Path,
    name: str,
    labels: dict[str, dict[str, dict[str, str]]],
    prefix: str = ".\\datasets\\",
    numbers: Sequence[int] = range(8),
) -> Path:
    """Write a data set without compression levels.

    Args:
        root: Where it goes.
        name: Of the data set.
        labels: Label key -> split -> video -> folder of its frames.
        prefix: What stands before the paths in the JSON file.
        numbers: Of the frames.

    Returns:
        The JSON file.
    """
    content = {
        key: {
            split: {
                video: {
                    "label": key,
                    "frames": windows(write_bench_video(root, folder, numbers), prefix),
                }
                for video, folder in videos.items()
            }
            for split, videos in splits.items()
        }
        for key, splits in labels.items()
    }
    return write_json(root, name, content)


def write_df40(root: Path, method: str, source: str = "ff") -> Path:
    """Write `<method>_ff.json`: a fake and a real test video of FaceForensics++."""
    folder = f"deepfake_detection_datasets/DF40/{method}/{source}/frames"
    fakes = {name: f"{folder}/{name}" for name in ("030_031", "031_030")}
    reals = {name: f"{FF_FOLDERS['FF-real']}/c23/frames/{name}" for name in ("030", "031")}
    return write_flat(
        root,
        f"{method}_{source}",
        {f"{method}_Fake": {"test": fakes}, f"{method}_Real": {"test": reals}},
    )
