from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray

from datamodules.integrity.__main__ import main
from datamodules.integrity.audit import Audit, audit
from datamodules.integrity.counts import MAX_RATIO, count_findings
from datamodules.integrity.leaks import components, leaks
from datamodules.manifest import read_manifest
from datamodules.schema import VideoRecord
from datamodules.storage.output import open_output
from datamodules.store.prepared import MANIFEST_NAME
from datamodules.video.reader import file_sha256
from tests.datamodules.integrity.portraits import (
    FRAMES,
    change,
    draw_track,
    rewrite,
    write_portraits,
)
from tests.support.stores import portrait
from tests.support.videos import overwrite_bytes, write_video

#: Positions in the sorted records: fake test, train, train, val; real test, train, train, val.
FAKE_TEST, FAKE_TRAIN, REAL_TEST, REAL_TRAIN = 0, 1, 4, 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portraits")
    write_portraits(folder / "store", folder / "raw")
    return folder


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole / "store", tmp_path / "store")
    return tmp_path / "store"


def records_of(store: Path) -> list[VideoRecord]:
    return read_manifest(store / MANIFEST_NAME)


def errors(found: Audit) -> list[str]:
    return [f"{f.check}: {f.line}" for f in found.findings if f.level == "error"]


def checked(store: Path, raw: Path | None = None, fast: bool = False) -> list[str]:
    """Check in one worker process; give the errors without those of the data card."""
    found = audit(str(store), None if raw is None else str(raw), fast=fast)
    return [line for line in errors(found) if not line.startswith("data card")]


def test_a_whole_store_is_fine(whole: Path, tmp_path: Path) -> None:
    report = tmp_path / "out"
    words = ["--manifest", str(whole / "store" / MANIFEST_NAME), "--raw", str(whole / "raw")]
    assert main([*words, "--out", str(report), "--workers", "2"]) == 0
    told = json.loads((report / "check.json").read_text())
    assert told["findings"] == []
    assert (told["num_videos"], told["num_tracks"], told["num_components"]) == (8, 8, 8)
    assert told["tables"][0]["rows"] == [["real", [2, 1, 1, 4]], ["fake", [2, 1, 1, 4]]]
    assert "No error found, 0 warning(s)" in (report / "check.md").read_text()
    assert not (whole / "store" / "check.md").exists()


def test_a_missing_track(store: Path) -> None:
    record = records_of(store)[FAKE_TRAIN]
    (store / record.tracks[0]).unlink()
    assert checked(store) == [f"files: {record.video_id}: {record.tracks[0]}: is missing"]


@pytest.mark.parametrize(("fast", "noticed"), [(False, True), (True, False)])
def test_a_flipped_bit_in_a_crop(store: Path, fast: bool, noticed: bool) -> None:
    track = store / records_of(store)[0].tracks[0]
    content = bytearray(track.read_bytes())
    # In the picture of a frame that no fingerprint is made of.
    place = content.index(b"frames/000002.jpg") + 700
    content[place] ^= 1
    track.write_bytes(bytes(content))
    assert bool(checked(store, fast=fast)) is noticed


@pytest.mark.parametrize("frame", [0, 2, 9])
def test_a_bad_byte_is_told_once(store: Path, frame: int) -> None:
    track = store / records_of(store)[0].tracks[0]
    content = bytearray(track.read_bytes())
    content[content.index(b"frames/%06d.jpg" % frame) + 300] ^= 0xFF
    track.write_bytes(bytes(content))
    (line,) = errors(audit(str(store)))
    assert line.startswith("files: ")


def test_paths_that_leave_the_root_are_not_opened(whole: Path, store: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"private")
    change(store, records_of(store), 0, path=str(outside))
    change(store, records_of(store), 1, tracks=("../outside",))
    found = checked(store, whole / "raw")
    assert len(found) == 2
    assert all(line.endswith("is absolute or leaves its root") for line in found)


def test_a_cut_track_does_not_stop_the_rest(store: Path) -> None:
    records = records_of(store)
    cut, missing = records[0], records[3]
    path = store / cut.tracks[0]
    path.write_bytes(path.read_bytes()[:500])
    (store / missing.tracks[0]).unlink()
    found = checked(store)
    assert len(found) == 2
    assert "cannot be read (File is not a zip file)" in found[0]
    assert str(store) not in found[0]
    assert found[1].endswith("is missing")


def test_a_track_of_another_source_or_too_many_frames(store: Path) -> None:
    records = records_of(store)
    change(store, records, 0, sha256="0" * 64, num_frames=4, height=119)
    found = checked(store)
    assert any("made of another file than the manifest names" in line for line in found)
    assert any("holds frame 9 of a video of 4 frames" in line for line in found)
    assert any("pictures of 160x120, not 160x119" in line for line in found)


def test_a_track_that_nobody_names(store: Path) -> None:
    shutil.copy(store / records_of(store)[0].tracks[0], store / "tracks/stray.zip")
    found = audit(str(store))
    assert [f.line for f in found.findings] == [
        "1 track(s) that the manifest does not name: tracks/stray.zip"
    ]


def raw_copy(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole / "raw", tmp_path / "raw")


@pytest.mark.parametrize("fast", [False, True])
def test_a_changed_raw_file(whole: Path, store: Path, tmp_path: Path, fast: bool) -> None:
    raw = raw_copy(whole, tmp_path)
    record = records_of(store)[REAL_TRAIN]
    write_video(raw / record.path, FRAMES, gop=99)
    (raw / records_of(store)[0].path).unlink()
    found = checked(store, raw, fast)
    assert any("the raw file is missing" in line for line in found)
    assert any(f"{record.path}: the raw file has changed" in line for line in found)
    assert len(found) == 2


def test_a_raw_file_of_another_length(whole: Path, store: Path, tmp_path: Path) -> None:
    record = change(store, records_of(store), REAL_TRAIN, num_frames=FRAMES + 1)
    line = f"{record.path}: decodes {FRAMES} frames, the manifest says {FRAMES + 1}"
    assert checked(store, whole / "raw") == [f"files: {record.video_id}: {line}"]
    assert checked(store, whole / "raw", fast=True) == []


def test_a_raw_file_that_does_not_decode(whole: Path, store: Path, tmp_path: Path) -> None:
    raw = raw_copy(whole, tmp_path)
    records = records_of(store)
    path = raw / records[0].path
    overwrite_bytes(path, path, start=0.05, count=path.stat().st_size // 2)
    change(store, records, 0, sha256=file_sha256(path))
    found = checked(store, raw)
    assert any(records[0].path in line for line in found)


def test_an_identity_that_leaks_through_others(store: Path) -> None:
    """Train and test share nobody directly, but a chain of three groups ties them."""
    records = records_of(store)
    first = change(store, records, FAKE_TRAIN, group_ids=("a", "b"))
    second = change(store, records_of(store), REAL_TRAIN, group_ids=("b", "c"))
    third = change(store, records_of(store), REAL_TEST, group_ids=("c", "d"))
    found = audit(str(store))
    ids = [r.video_id for r in (first, second, third)]
    assert [line for line in errors(found) if line.startswith("leak")] == [
        f"leak: group c lies in train (1) and test (1), 3 videos are tied to it through others: "
        f"{ids[1]} (train), {ids[2]} (test)"
    ]
    (leak,) = found.leaks
    assert leak.videos == {"train": tuple(sorted(ids[:2])), "test": (ids[2],)}
    assert main(["--manifest", str(store), "--fast"]) == 1
    text = (store / "check.md").read_text()
    assert all(name in text for name in ids)


def test_a_pair_that_leaks(store: Path) -> None:
    records = records_of(store)
    change(store, records, FAKE_TEST, paired_real=records[REAL_TRAIN].video_id)
    (line,) = checked(store)
    assert line.startswith(f"leak: footage of {records[REAL_TRAIN].video_id} lies in train (1)")


def test_the_same_file_in_two_splits_and_under_two_labels(store: Path) -> None:
    records = records_of(store)
    draw_track(store, records[FAKE_TEST], seed=REAL_TRAIN)
    copy = change(store, records, FAKE_TEST, sha256=records[REAL_TRAIN].sha256)
    shutil.copy(store / records[REAL_TRAIN].tracks[0], store / copy.tracks[0])
    found = checked(store)
    assert len(found) == 2
    assert found[0].startswith(f"leak: the same file {copy.sha256[:12]} lies in train (1) and test")
    assert found[1].startswith(f"labels: the same file ({copy.sha256[:12]}) as real and fake: ")


def test_the_same_file_twice_in_one_split_is_a_warning(store: Path) -> None:
    records = records_of(store)
    change(store, records, REAL_TRAIN + 1, sha256=records[REAL_TRAIN].sha256)
    shutil.copy(store / records[REAL_TRAIN].tracks[0], store / records[REAL_TRAIN + 1].tracks[0])
    found = audit(str(store), fast=True)
    assert [f.check for f in found.findings if f.level == "warning"] == ["duplicate"]


def re_encoded(seed: int, folder: Path) -> list[NDArray[np.uint8]]:
    """Give the pictures of a track as a strong H.264 encoding leaves them."""
    path = folder / "again.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "35"})
        stream.height, stream.width, stream.pix_fmt = 66, 64, "yuv420p"
        for frame in range(FRAMES):
            picture = portrait(frame, seed, (66, 64))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_near_duplicate_in_another_split(store: Path, tmp_path: Path, mirrored: bool) -> None:
    records = records_of(store)
    pictures = re_encoded(REAL_TRAIN, tmp_path)

    def draw(frame: int, seed: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
        # Brighter as well, and from another moment of the video.
        picture = pictures[(frame + 3) % FRAMES][: shape[0], : shape[1]]
        picture = picture[:, ::-1] if mirrored else picture
        return np.clip(picture * 1.1, 0, 255).astype(np.uint8)

    draw_track(store, records[REAL_TEST], 0, draw)
    (line,) = checked(store)
    assert line.startswith("near-duplicate: nearly the same pictures (")
    assert ("mirrored" in line) is mirrored
    assert {records[i].video_id in line for i in (REAL_TRAIN, REAL_TEST)} == {True}
    # Within one split it is nobody's harm, and told already where the two are tied anyhow.
    change(store, records, REAL_TEST, split="train")
    assert not [line for line in checked(store) if line.startswith("near")]
    change(store, records, REAL_TEST, group_ids=records[REAL_TRAIN].group_ids)
    assert [line.split(":")[0] for line in checked(store)] == ["leak"]


def test_a_class_is_missing(store: Path) -> None:
    records = records_of(store)
    rewrite(store, [r for r in records if r.label == 0 or r.split == "test"])
    assert "classes: train has no usable fake video" in checked(store)


def test_lopsided_splits_and_losses_of_one_class() -> None:
    def video(number: int, label: int, status: str = "ok") -> VideoRecord:
        return VideoRecord(
            video_id=f"v{label}{number}",
            path="v.mp4",
            label=label,
            dataset="toy",
            split="train",
            group_ids=(f"v{label}{number}",),
            status=status,  # type: ignore[arg-type]
        )

    fakes = [video(i, 1) for i in range(60)]
    lost = [video(i, 0, "no_face") for i in range(2)]
    fine = [video(i, 0) for i in range(10, 22)]
    lines = [finding.line for finding in count_findings([*fakes, *lost, *fine])]
    assert not any("train has 12 real" in line for line in lines)  # 5 to 1 is allowed
    assert any(
        "14 % of the real and 0 % of the fake videos have no usable face" in s for s in lines
    )
    lines = [finding.line for finding in count_findings([*fakes, video(99, 1), *fine])]
    assert any(f"more than {MAX_RATIO:g} to 1" in line for line in lines)


def test_bad_lines_are_listed_to_the_end(store: Path) -> None:
    manifest = store / MANIFEST_NAME
    lines = manifest.read_text().splitlines()
    lines[2] = lines[2][:40]
    lines[4] = lines[4].replace('"label": 0', '"label": 3')
    lines[5] = lines[5].replace('"split": "train"', '"split": "trian"')
    manifest.write_text("\n".join([*lines, "[1, 2]", lines[0]]) + "\n")
    found = [line for line in checked(store) if line.startswith("manifest")]
    assert len(found) == 5
    assert "line 3: not a JSON object" in found[0]
    assert "line 9: not a JSON object but a list" in found[1]
    assert "label 3 is neither" in found[2]
    assert "split 'trian' is none of" in found[3]
    assert "video_id is not unique" in found[4]


def test_a_bare_manifest_is_checked_on_its_own(store: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(store / MANIFEST_NAME, alone / "list.jsonl")
    found = audit(str(alone / "list.jsonl"))
    assert found.num_errors == 0
    assert "no track is checked" in found.findings[0].line


def test_a_store_of_another_format(store: Path) -> None:
    info = json.loads((store / "prepared.json").read_text())
    (store / "prepared.json").write_text(json.dumps({**info, "format_version": 0}))
    (line,) = checked(store)
    assert "is of format 0" in line


def test_users_mistakes_are_one_line(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (store / "report.csv").touch()
    for words in (
        ["--manifest", str(tmp_path / "none" / "manifest.jsonl")],
        ["--manifest", str(tmp_path / "empty.jsonl")],
        ["--manifest", str(store / "report.csv")],
        ["--manifest", str(store), "--raw", str(tmp_path / "none")],
        ["--manifest", str(store), "--out", str(store / "prepared.json")],
        ["--card", str(tmp_path)],
        ["--compare", str(store), str(tmp_path)],
        ["--frobnicate"],
        [],
    ):
        assert main(words) == 2, words
        said = capsys.readouterr()
        assert said.err.startswith("error: "), words
        assert said.err.count("\n") == 1, said.err


def test_a_folder_that_takes_no_report(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Whoever runs the tests may be allowed to write anywhere.
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != store)
    assert main(["--manifest", str(store), "--fast"]) == 2
    assert "give --out <folder>" in capsys.readouterr().err
    assert main(["--manifest", str(store), "--fast", "--out", str(tmp_path / "out")]) == 0


def test_components_of_long_chains() -> None:
    def video(number: int) -> VideoRecord:
        return VideoRecord(
            video_id=f"v{number:05d}",
            path="v.mp4",
            label=0,
            dataset="toy",
            split="train" if number < 5000 else "test",
            group_ids=(f"g{number}", f"g{number + 1}"),
        )

    records = [video(number) for number in range(10_000)]
    parts = components(records)
    assert [len(part) for part in parts] == [10_000]
    (leak,) = leaks(records, parts)
    assert [link.name for link in leak.links] == ["g5000"]


def test_colours_do_not_matter(store: Path) -> None:
    """A grey copy is the same footage."""
    records = records_of(store)

    def draw(frame: int, seed: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
        grey = cv2.cvtColor(portrait(frame, seed, shape), cv2.COLOR_RGB2GRAY)
        return np.repeat(grey[..., None], 3, axis=2)

    draw_track(store, records[REAL_TEST], REAL_TRAIN, draw)
    assert [line.split(":")[0] for line in checked(store, fast=True)] == ["near-duplicate"]


def test_a_file_that_is_no_manifest_is_called_so(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--manifest", str(store / "prepared.json")]) == 2
    said = capsys.readouterr().err
    assert said.endswith("prepared.json is no manifest; give <prepared>/manifest.jsonl\n")


def test_no_rate_is_made_of_a_few_videos(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--manifest", str(store), "--fast"]) == 0
    assert "per 1,000 videos" not in capsys.readouterr().out


def test_reports_and_cards_go_into_buckets(
    store: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = open_output(f"{bucket}/store")
    for path in sorted(path for path in store.rglob("*") if path.is_file()):
        far.write(path.relative_to(store).as_posix(), path.read_bytes())
    monkeypatch.chdir(tmp_path)
    # Workers of earlier tests do not know of the bucket.
    get_reusable_executor().shutdown(wait=True)
    assert main(["--manifest", f"{far}/manifest.jsonl", "--fast"]) == 0
    assert main(["--manifest", str(store), "--fast", "--out", f"{bucket}/report"]) == 0
    assert main(["--card", f"{far}", "--out", f"{bucket}/card"]) == 0
    assert main(["--compare", f"{far}", f"{bucket}/card/data_card.json"]) == 0
    files = open_output(bucket).files()
    assert {"store/check.md", "report/check.json", "card/data_card.md"} <= set(files)
    assert not (tmp_path / "s3:").exists()
