from collections import Counter
from pathlib import Path

import pytest

from datamodules.datasets.adapter import LayoutOptions
from datamodules.datasets.layouts import read_layout
from datamodules.datasets.records import SourceFolder
from datamodules.errors import DataError
from datamodules.preprocess.__main__ import main
from datamodules.storage.root import open_root
from datamodules.store.prepared import PreparedStore
from tests.support.frame_folders import write_bench_video, write_picture
from tests.support.videos import coded_frame

PAIRS = ("000_003", "005_010", "012_026", "040_041", "042_043", "044_045")
REAL = "FaceForensics++/original_sequences/youtube/c23/frames"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two swaps, a reenactment of Celeb-DF, still pictures, a method with reals of its own."""
    root = tmp_path_factory.mktemp("df40")
    for folder in (
        "DF40/simswap/ff/frames/030_031",
        "DF40/blendface/ff/frames/031_030",
        "DF40/fomm/cdf/frames/id0_id16_0007",
        *(f"DF40_train/simswap/ff/frames/{pair}" for pair in PAIRS),
        "DF40/deepfacelab/fake/frames/0001_fake",
        "DF40/deepfacelab/real/frames/0001",
        f"{REAL}/030",
        f"{REAL}/000",
        f"{REAL}/500",
    ):
        write_bench_video(root, folder, range(3))
    for k, name in enumerate(("MidJourney/fake/a cat.png", "MidJourney/real/7.png")):
        write_picture(root / "DF40" / name, coded_frame(k, 256, 256))
    for k in range(3):
        write_picture(root / f"DF40/StyleGAN2/ff/frames/030/{k}.png", coded_frame(k, 256, 256))
    return root


def read(root: Path, *subsets: str) -> SourceFolder:
    return read_layout("df40", open_root(root), LayoutOptions(subsets=subsets))


def test_parts_by_their_folders(tree: Path) -> None:
    source = read(tree)
    tests = [r for r in source.records if r.split == "test"]
    assert Counter((r.dataset, r.label, r.method) for r in tests) == {
        ("simswap_ff", 1, "simswap"): 1,
        ("blendface_ff", 1, "blendface"): 1,
        ("fomm_cdf", 1, "fomm"): 1,
        ("deepfacelab", 1, "deepfacelab"): 1,
        ("deepfacelab", 0, None): 1,
        ("MidJourney", 1, "MidJourney"): 1,
        ("MidJourney", 0, None): 1,
        ("StyleGAN2_ff", 1, "StyleGAN2"): 3,
        ("FaceForensics++", 0, None): 1,
    }
    others = [r for r in source.records if r.split != "test"]
    assert {r.split for r in others} == {"train", "val"}
    assert Counter((r.dataset, r.label) for r in others) == {
        ("simswap_ff", 1): 6,
        ("FaceForensics++", 0): 1,
    }
    groups = {record.path: record.group_ids for record in source.records}
    assert groups["DF40/simswap/ff/frames/030_031"] == ("ffpp/030", "ffpp/031")
    assert groups["DF40/fomm/cdf/frames/id0_id16_0007"] == ("celeb_df/id0", "celeb_df/id16")
    assert groups["DF40/StyleGAN2/ff/frames/030/2.png"] == ("ffpp/030",)
    ids = {record.path: record.video_id for record in source.records}
    assert ids["DF40/StyleGAN2/ff/frames/030/2.png"] == "StyleGAN2_ff/unknown/StyleGAN2/030__2"
    notes = "\n".join(source.notes)
    assert "5 lone picture(s) are videos of one frame" in notes
    assert "2 genuine video(s) of FaceForensics++ are taken, 1 of other people are not" in notes
    assert "no genuine video for cdf" in notes


def test_subsets_and_inner_roots(tree: Path) -> None:
    source = read(tree, "simswap_ff,blendface_ff")
    assert {r.dataset for r in source.records} == {"simswap_ff", "blendface_ff", "FaceForensics++"}
    inner = read(tree / "DF40_train", "simswap_ff")
    assert {r.path for r in inner.records} == {f"simswap/ff/frames/{pair}" for pair in PAIRS}
    assert {r.split for r in inner.records} == {"train", "val"}
    with pytest.raises(DataError, match=r"no part 'uniface_ff'; there are: MidJourney, .*"):
        read(tree, "uniface_ff")
    with pytest.raises(DataError, match="give the folder that holds DF40"):
        read(tree / "FaceForensics++")


def test_lone_pictures_are_prepared(tree: Path, tmp_path: Path) -> None:
    command = ["--layout", "df40", "-d", str(tree), "-o", str(tmp_path / "out")]
    command += ["--subset", "deepfacelab", "--backend", "bench", "--workers", "1"]
    assert main(command) == 0
    records = PreparedStore(tmp_path / "out").records
    assert {(r.status, r.num_frames, len(r.tracks)) for r in records} == {("ok", 3, 1)}
