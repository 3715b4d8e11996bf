import pickle
import shutil
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pytest

from datamodules.clip_dataset import ClipCutter, video_clip_refs
from datamodules.datasets.records import SourceFolder, SourceVideo, source_folder
from datamodules.errors import DataError
from datamodules.preprocess.batch import prepare_folder
from datamodules.preprocess.prepare import PrepareOptions
from datamodules.storage.root import open_root
from datamodules.store.prepared import PreparedStore
from datamodules.video.frames_reader import frame_files, frames_step
from datamodules.video.reader import DamagedVideoError, frame_times, open_video, probe_video
from tests.support.frame_folders import write_frames, write_lossless, write_picture
from tests.support.raw_folder import face_rows, write_faces
from tests.support.videos import coded_frame, read_codes

GIVEN = PrepareOptions(backend="given", image_format="png")


def coded(count: int = 12) -> list[np.ndarray]:
    return [coded_frame(k, 96, 128) for k in range(count)]


def test_frames_are_the_pictures_by_number(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "v", coded(), numbers=[10 * k for k in range(12)])
    (folder / "Thumbs.db").touch()
    (folder / "._000.png").touch()
    (folder / "landmarks").mkdir()
    info = probe_video(folder)
    assert (info.num_frames, info.height, info.width, info.fps) == (12, 96, 128, 0.0)
    assert (info.decoder, info.damage) == ("frames", "")
    assert len(frame_times(folder, 12)) == len(info.timestamps_s) == 12
    files = frame_files(folder)
    assert files.numbers == tuple(range(0, 120, 10))
    assert frames_step(files) == 10.0
    with open_video(folder, info.decoder, info.num_frames) as reader:
        assert read_codes(reader.read([11, 0, 3, 3])) == [11, 0, 3, 3]
        assert read_codes(np.stack(list(reader))) == list(range(12))
        np.testing.assert_array_equal(reader.read([5])[0], coded_frame(5, 96, 128))
        assert reader.read([]).shape == (0, 96, 128, 3)
        with pytest.raises(IndexError, match="frame 12 asked for"):
            reader.read([12])
        again = pickle.loads(pickle.dumps(reader))
        assert read_codes(again.read([7])) == [7]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp", ".bmp"])
def test_other_kinds_of_pictures(tmp_path: Path, suffix: str) -> None:
    folder = write_frames(tmp_path / "v", coded(3), suffix=suffix)
    with open_video(folder, probe_video(folder).decoder) as reader:
        assert read_codes(reader.read([2, 1, 0])) == [2, 1, 0]


def test_numbers_count_not_letters(tmp_path: Path) -> None:
    names = [f"seed7_{k}.png" for k in (0, 2, 10, 11)]
    for k, name in enumerate(names):
        write_picture(tmp_path / name, coded_frame(k, 96, 128))
    files = frame_files(tmp_path)
    assert [file.name for file in files.files] == names
    assert files.numbers == (0, 1, 2, 3)


def test_some_pictures_of_a_folder_are_a_video(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "v", coded(6))
    names = ("004.png", "001.png")
    info = probe_video(folder, frames=names)
    with open_video(folder, info.decoder, info.num_frames, names) as reader:
        assert read_codes(np.stack(list(reader))) == [1, 4]
        assert read_codes(pickle.loads(pickle.dumps(reader)).read([1])) == [4]
    assert info.sha256 != probe_video(folder).sha256
    with pytest.raises(DataError, match=r"lacks 1 of 2 frames, the first is 9\.png"):
        probe_video(folder, frames=("9.png", "001.png"))


def test_a_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    file = write_picture(tmp_path / "face a.png", coded_frame(9, 96, 128))
    info = probe_video(file)
    assert (info.num_frames, info.decoder) == (1, "frames")
    with open_video(file, info.decoder, 1) as reader:
        assert read_codes(reader.read([0])) == [9]


def test_hash_names_names_and_bytes(tmp_path: Path) -> None:
    known = probe_video(write_frames(tmp_path / "a", coded(3))).sha256
    assert probe_video(write_frames(tmp_path / "b", coded(3))).sha256 == known
    renamed = write_frames(tmp_path / "c", coded(3), numbers=[0, 1, 3])
    assert probe_video(renamed).sha256 != known
    changed = write_frames(tmp_path / "d", [*coded(2), coded_frame(3, 96, 128)])
    assert probe_video(changed).sha256 != known


def spoil_empty(file: Path) -> None:
    file.write_bytes(b"")


def spoil_cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def spoil_text(file: Path) -> None:
    file.write_text("not a picture")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("spoil", [spoil_empty, spoil_cut, spoil_text])
def test_damaged_pictures_are_named(tmp_path: Path, spoil: object, suffix: str) -> None:
    folder = write_frames(tmp_path / "v", coded(6), suffix=suffix)
    spoil(folder / f"004{suffix}")  # type: ignore[operator]
    with pytest.raises(DamagedVideoError, match=f"004{suffix}: is ") as caught:
        probe_video(folder)
    assert caught.value.good_frames == 4
    info = probe_video(folder, allow_damaged=True)
    assert (info.num_frames, info.decoder) == (4, "frames_prefix")
    assert f"004{suffix}" in info.damage
    with open_video(folder, info.decoder, info.num_frames) as reader:
        assert read_codes(np.stack(list(reader))) == [0, 1, 2, 3]
    with open_video(folder, info.decoder) as reader:
        assert reader.num_frames == 4
    with open_video(folder, "frames") as reader, pytest.raises(DamagedVideoError, match="004"):
        list(reader)
    spoil(folder / f"000{suffix}")  # type: ignore[operator]
    with pytest.raises(DamagedVideoError, match=f"000{suffix}"):
        probe_video(folder, allow_damaged=True)


def test_refusals_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        probe_video(tmp_path / "none.png")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        probe_video(empty)
    twice = write_frames(tmp_path / "twice", coded(3))
    shutil.copy(twice / "001.png", twice / "1.png")
    with pytest.raises(DataError, match=r"001\.png and 1\.png are the same frame"):
        probe_video(twice)
    mixed = write_frames(tmp_path / "mixed", coded(3))
    shutil.copy(mixed / "001.png", mixed / "mask.png")
    with pytest.raises(DataError, match=r"000\.png and mask\.png are not named alike"):
        probe_video(mixed)
    sizes = write_frames(tmp_path / "sizes", [*coded(2), coded_frame(2, 48, 128)])
    with pytest.raises(DataError, match=r"002\.png: is of 128x48 pixels.* of 128x96"):
        probe_video(sizes, allow_damaged=True)
    with open_video(sizes, "frames") as reader, pytest.raises(DataError, match=r"002\.png"):
        list(reader)
    whole = write_frames(tmp_path / "whole", coded(3))
    with open_video(whole, "frames", 4) as reader, pytest.raises(DataError, match="has changed"):
        reader.read([0])


def test_grey_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    grey = coded_frame(5, 96, 128)[..., 0]
    cv2.imwrite(str(tmp_path / "0.png"), grey)
    cv2.imwrite(str(tmp_path / "1.png"), np.dstack([grey, grey, grey, grey // 2]))
    with open_video(tmp_path, "frames") as reader:
        frames = reader.read([0, 1])
    np.testing.assert_array_equal(frames[0], np.dstack([grey] * 3))
    np.testing.assert_array_equal(frames[1], frames[0])


def videos_of(root: Path) -> SourceFolder:
    found = [path for path in root.glob("*/*") if ".faces" not in path.name]
    videos = [
        SourceVideo(
            path=PurePosixPath(path.relative_to(root)),
            label=int(path.parent.name == "fake"),
            method="swap" if path.parent.name == "fake" else None,
        )
        for path in found
    ]
    assert len(videos) == 2
    return source_folder(open_root(root), "same", videos)


def test_frame_folders_and_videos_give_equal_clips(tmp_path: Path) -> None:
    kinds = {
        "mp4": lambda path, frames: write_lossless(path.with_suffix(".mp4"), frames),
        "png": write_frames,
    }
    stores = {}
    for kind, write in kinds.items():
        for name, first in (("real/a", 0), ("fake/b", 100)):
            frames = [coded_frame(first + k, 96, 128) for k in range(20)]
            video = write(tmp_path / kind / name, frames)
            write_faces(video, face_rows([*range(4), *range(6, 20)]))
        prepare_folder(videos_of(tmp_path / kind), tmp_path / f"{kind}_out", GIVEN, 1)
        stores[kind] = PreparedStore(tmp_path / f"{kind}_out")
    for mine, other in zip(stores["mp4"].records, stores["png"].records, strict=True):
        assert mine.video_id == other.video_id
        assert (mine.decoder != "frames", other.decoder) == (True, "frames")
        assert (mine.num_frames, mine.status) == (other.num_frames, other.status) == (20, "ok")
        assert mine.tracks == other.tracks
        tracks = [stores[k].reader(mine.tracks[0]) for k in ("mp4", "png")]
        for name in ("frame_index", "box", "points5", "points68", "score"):
            values = [getattr(reader.track, name) for reader in tracks]
            np.testing.assert_array_equal(*values)
        clips = []
        for kind, record in (("mp4", mine), ("png", other)):
            refs = video_clip_refs(stores[kind], record, 0, 8, None)
            cutter = ClipCutter(stores[kind], 64)
            clips.append(
                [cutter.cut(record.tracks[ref.track_index], ref.positions) for ref in refs]
            )
        assert len(clips[0]) == len(clips[1]) > 1
        for clip, twin in zip(*clips, strict=True):
            np.testing.assert_array_equal(clip.frames, twin.frames)
            np.testing.assert_array_equal(clip.points68, twin.points68)


def test_a_changed_picture_is_prepared_again(tmp_path: Path) -> None:
    for name in ("real/a", "fake/b"):
        write_faces(write_frames(tmp_path / "raw" / name, coded(9)), face_rows(range(9)))
    source, out = videos_of(tmp_path / "raw"), tmp_path / "out"
    prepare_folder(source, out, GIVEN, 1)
    assert prepare_folder(source, out, GIVEN, 1).num_kept == 2
    write_picture(tmp_path / "raw/fake/b/004.png", coded_frame(40, 96, 128))
    assert prepare_folder(source, out, GIVEN, 1).num_kept == 1
    spoil_cut(tmp_path / "raw/fake/b/004.png")
    done = prepare_folder(source, out, GIVEN, 1)
    damaged = next(record for record in done.records if record.label == 1)
    assert (damaged.status, damaged.num_frames, damaged.decoder) == ("ok", 4, "frames_prefix")
