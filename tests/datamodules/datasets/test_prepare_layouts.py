"""Data sets in their true folders, through the real command line, to a prepared store."""

import json
from pathlib import Path

import cv2
import pytest

from datamodules.preprocess.__main__ import main
from datamodules.store.prepared import PreparedStore
from tests.support.layouts import write
from tests.support.raw_folder import face_rows, write_clip, write_faces
from tests.support.videos import coded_frame

GIVEN = ("--backend", "given", "--workers", "1", "--format", "png")


def prepare(layout: str, root: Path, out: Path, *options: str) -> PreparedStore:
    assert main(["--layout", layout, "-d", str(root), "-o", str(out), *GIVEN, *options]) == 0
    return PreparedStore(out)


def test_ffpp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "ff"
    for name in ("000", "003", "020"):
        write_clip(root / f"original_sequences/youtube/c23/videos/{name}.mp4")
    write_clip(root / "manipulated_sequences/FaceSwap/c23/videos/000_003.mp4")
    for split, pairs in (("train", [["000", "003"]]), ("val", [["020", "021"]]), ("test", [])):
        write(root / f"splits/{split}.json", json.dumps(pairs))
    store = prepare("ffpp", root, tmp_path / "out", "--compression", "c23", "--subset", "FaceSwap")
    records = {record.video_id: record for record in store.records}
    assert {record.status for record in store.records} == {"ok"}
    fake = records["ffpp/c23/FaceSwap/000_003"]
    assert (fake.split, fake.paired_real, fake.num_frames) == ("train", "ffpp/c23/real/000", 20)
    assert records["ffpp/c23/real/020"].split == "val"
    assert "the official splits (youtube, c23) are not there" in capsys.readouterr().out


def test_celeb_df_v2(tmp_path: Path) -> None:
    root = tmp_path / "Celeb-DF-v2"
    for name in (
        "Celeb-real/id0_0000",
        "Celeb-real/id1_0000",
        "YouTube-real/00001",
        "YouTube-real/00002",
        "Celeb-synthesis/id0_id1_0000",
        "Celeb-synthesis/id1_id0_0000",
    ):
        write_clip(root / f"{name}.mp4")
    lines = ["1 Celeb-real/id0_0000.mp4", "0 Celeb-synthesis/id0_id1_0000.mp4"]
    write(root / "List_of_testing_videos.txt", "\n".join(lines))
    store = prepare("celeb_df_v2", root, tmp_path / "out")
    tested = {record.path for record in store.records if record.split == "test"}
    assert tested == {line.partition(" ")[2] for line in lines}
    assert {r.path for r in store.records} - tested == {f"YouTube-real/0000{n}.mp4" for n in (1, 2)}


def test_wilddeepfake(tmp_path: Path) -> None:
    root = tmp_path / "wild"
    for folder in ("real_train", "fake_train", "real_test", "fake_test"):
        sequence = root / folder / "1" / folder.partition("_")[0] / "7"
        sequence.mkdir(parents=True)
        for number in range(8, 20):
            # Not in the order of the names: 10.png sorts before 8.png.
            frame = coded_frame(number, 96, 128)[:, :, ::-1]
            cv2.imwrite(str(sequence / f"{number}.png"), frame)
        write_faces(sequence, face_rows(range(12)))
    store = prepare("wilddeepfake", root, tmp_path / "out")
    assert {(r.status, r.decoder, r.num_frames) for r in store.records} == {("ok", "frames", 12)}
    assert {r.split for r in store.records if "_test/" in r.path} == {"test"}
