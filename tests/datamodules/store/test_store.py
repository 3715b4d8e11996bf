"""The prepared store: exact round trips, whole files or none, damage found and named."""

from __future__ import annotations

import gc
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.manifest import manifest_hash
from datamodules.store import prepared as store_module
from datamodules.store.prepared import (
    PreparedInfo,
    PreparedStore,
    TrackReader,
    TrackWriter,
    write_prepared_info,
)
from tests.support.stores import smooth_crop, track_meta, write_store, write_track

if TYPE_CHECKING:
    from collections.abc import Callable

    from datamodules.store.track_file import ImageFormat

FRAMES = (0, 1, 4, 5, 9)


@pytest.mark.parametrize(("image_format", "tolerance"), [("jpg", 6), ("png", 0)])
def test_round_trip(tmp_path: Path, image_format: ImageFormat, tolerance: int) -> None:
    path = tmp_path / "deep" / "0.zip"
    write_track(path, 0, frames=FRAMES, image_format=image_format)
    reader = TrackReader(path)
    assert len(reader) == len(reader.track) == 5
    assert reader.meta == track_meta(image_format=image_format)
    np.testing.assert_array_equal(reader.track.frame_index, FRAMES)
    np.testing.assert_array_equal(reader.crop_boxes[2], (24, 30, 88, 94))
    np.testing.assert_array_equal(reader.track.box[2], (40, 46, 72, 78))
    assert reader.track.points68.shape == (5, 68, 2)
    assert reader.track.points68.dtype == np.float32
    crops = reader.crops([4, 0, 4])
    for crop, frame in zip(crops, (9, 0, 9), strict=True):
        wanted = smooth_crop(frame, 0, (64 + frame % 2, 64)).astype(int)
        assert crop.shape == wanted.shape
        assert np.abs(crop - wanted).max() <= tolerance
    reader.verify()


def test_colour_channels_are_not_swapped_nor_subsampled(tmp_path: Path) -> None:
    crop = np.zeros((16, 16, 3), np.uint8)
    crop[:, ::2] = (250, 10, 20)
    crop[:, 1::2] = (10, 20, 250)
    with TrackWriter(tmp_path / "0.zip", track_meta()) as writer:
        writer.add(3, crop, (0, 0, 16, 16), **_face())
    found = TrackReader(tmp_path / "0.zip").crops([0])[0]
    # With 4:2:0 neighbouring columns would share one colour: an error of more than 100.
    assert np.abs(found.astype(int) - crop).max() < 12


def test_equal_tracks_are_equal_files_and_any_tool_opens_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_track(tmp_path / name, 4)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with zipfile.ZipFile(tmp_path / "a") as file:
        assert file.testzip() is None
        assert file.namelist()[:2] == ["frames/000000.jpg", "frames/000001.jpg"]
        assert all(member.compress_type == zipfile.ZIP_STORED for member in file.infolist())
        about = json.loads(file.read("track.json"))
    assert about["backend"] == "given"
    assert set(about["members"]) == {f"frames/{i:06d}.jpg" for i in range(4)} | {"points.npz"}


def test_a_forehead_is_stored_where_the_backend_has_one(tmp_path: Path) -> None:
    crop = np.zeros((16, 16, 3), np.uint8)
    forehead = np.arange(26, dtype=np.float32).reshape(13, 2)
    for name, more in (("with", {"forehead": forehead}), ("without", {})):
        with TrackWriter(tmp_path / name, track_meta()) as writer:
            for frame in range(2):
                writer.add(frame, crop, (0, 0, 16, 16), **_face(), **more)
    stored = TrackReader(tmp_path / "with").track.forehead
    assert stored is not None
    np.testing.assert_array_equal(stored, [forehead, forehead])
    assert TrackReader(tmp_path / "without").track.forehead is None
    with TrackWriter(tmp_path / "mixed", track_meta()) as writer:
        writer.add(0, crop, (0, 0, 16, 16), **_face())
        with pytest.raises(ValueError, match="in all of its frames or in none"):
            writer.add(1, crop, (0, 0, 16, 16), **_face(), forehead=forehead)


def test_tracks_of_the_first_format_are_still_read(tmp_path: Path) -> None:
    write_track(tmp_path / "0.zip", 3)
    one, two, three = (f'"format_version": {n}'.encode() for n in (1, 2, 3))
    _replace(tmp_path / "0.zip", "track.json", lambda text: text.replace(two, one))
    assert len(TrackReader(tmp_path / "0.zip").track) == 3
    _replace(
        tmp_path / "0.zip",
        "track.json",
        lambda text: text.replace(one, three),
    )
    with pytest.raises(DataError, match="is of format 3, this program reads 1 and 2"):
        _ = TrackReader(tmp_path / "0.zip").track, TrackReader(tmp_path / "0.zip").meta


def _face() -> dict[str, Any]:
    points68 = np.zeros((68, 2))
    return {"box": (1, 1, 9, 9), "points5": points68[:5], "points68": points68, "score": 0.5}


@pytest.mark.parametrize("failure", [RuntimeError("decoder"), KeyboardInterrupt()])
def test_an_exception_leaves_nothing_behind(tmp_path: Path, failure: BaseException) -> None:
    crop = np.zeros((8, 8, 3), np.uint8)

    def interrupted() -> None:
        with TrackWriter(tmp_path / "0.zip", track_meta()) as writer:
            writer.add(0, crop, (0, 0, 8, 8), **_face())
            raise failure

    with pytest.raises(type(failure)):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.open

    def full(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        target = Path("/dev/full") if self.name.endswith(".partial") else self
        self.touch() if target is not self else None
        return original(target, "wb" if target is not self else mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left"):
        write_track(tmp_path / "0.zip", 30)
    assert list(tmp_path.iterdir()) == []


def test_a_track_without_frames_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="without frames"),
        TrackWriter(tmp_path / "0.zip", track_meta()),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame_index": 5}, "frame 5 follows 5"),
        ({"crop_box": (0, 0, 8, 9)}, "for box"),
        ({"crop_box": (0, 0, 8, 8.5)}, "crop_box holds fractions"),
        ({"crop": np.zeros((8, 8, 3), np.float32)}, "float32 crop"),
        ({"points68": np.zeros((5, 2))}, "points68 has shape"),
        ({"points5": np.full((5, 2), np.nan)}, "points5"),
    ],
)
def test_a_wrong_frame_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    frame = {
        "frame_index": 6,
        "crop": np.zeros((8, 8, 3), np.uint8),
        "crop_box": (0, 0, 8, 8),
        **_face(),
    }
    with TrackWriter(tmp_path / "0.zip", track_meta()) as writer:
        writer.add(**{**frame, "frame_index": 5})
        with pytest.raises(ValueError, match=message):
            writer.add(**{**frame, **changes})
    assert len(TrackReader(tmp_path / "0.zip")) == 1


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _flip_picture(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[400] ^= 0xFF
    path.write_bytes(content)


def _replace(path: Path, name: str, change: Callable[[bytes], bytes | None]) -> None:
    with zipfile.ZipFile(path) as file:
        members = {n: file.read(n) for n in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for n, content in members.items():
            new = change(content) if n == name else content
            if new is not None:
                file.writestr(n, new)


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _flip_picture,
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: _replace(path, "frames/000000.jpg", lambda _: None),
        lambda path: _replace(path, "frames/000000.jpg", lambda _: b"no picture"),
        lambda path: _replace(path, "points.npz", lambda content: content[:50]),
        lambda path: _replace(path, "track.json", lambda _: b"{"),
        lambda path: _replace(path, "track.json", lambda _: b"{}"),
    ],
)
def test_damage_is_named_with_the_remedy(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "0.zip"
    write_track(path, 4)
    damage(path)
    with pytest.raises(DataError) as caught:
        TrackReader(path).crops([0])
    assert str(path) in str(caught.value)
    assert "make data" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError):
        TrackReader(path).verify()


def test_verify_finds_a_picture_exchanged_for_another(tmp_path: Path) -> None:
    path = tmp_path / "0.zip"
    write_track(path, 3)
    with zipfile.ZipFile(path) as file:
        other = file.read("frames/000002.jpg")
    _replace(path, "frames/000000.jpg", lambda _: other)
    TrackReader(path).crops([0])
    with pytest.raises(DataError, match=r"frames/000000\.jpg has changed"):
        TrackReader(path).verify()


def test_positions_outside_are_refused(tmp_path: Path) -> None:
    write_track(tmp_path / "0.zip", 3)
    for position in (-1, 3):
        with pytest.raises(IndexError):
            TrackReader(tmp_path / "0.zip").crops([position])


def test_store_reads_what_was_written(tmp_path: Path) -> None:
    records = write_store(tmp_path, {("train", 0): 1, ("test", 1): 2})
    store = PreparedStore(tmp_path)
    assert store.records == records
    assert store.manifest_hash == manifest_hash(records)
    assert store.info.backend == "given"
    reader = store.reader(records[0].tracks[0])
    assert store.reader(records[0].tracks[0]) is reader
    assert len(reader) == 12


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_open_files_are_bounded_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_OPEN_TRACKS", 3)
    records = write_store(tmp_path, {("train", 0): 8}, num_frames=2)
    store = PreparedStore(tmp_path)
    gc.collect()  # what earlier tests left open in reference cycles
    before = _open_files()
    for _ in range(2):
        for record in records:
            store.reader(record.tracks[0]).crops([0])
            assert _open_files() <= before + 3
    store.close()
    assert _open_files() == before


def test_a_forked_process_opens_its_own_handle(tmp_path: Path) -> None:
    records = write_store(tmp_path, {("train", 0): 1})
    store = PreparedStore(tmp_path)
    reader = store.reader(records[0].tracks[0])
    reader.crops([0])
    parent = reader._open()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if reader._open() is not parent and len(reader.crops([3])) == 1 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert reader._open() is parent


def test_a_store_in_use_can_be_pickled(tmp_path: Path) -> None:
    records = write_store(tmp_path, {("train", 0): 1})
    store = PreparedStore(tmp_path)
    reader = store.reader(records[0].tracks[0])
    first = reader.crops([1])[0]
    for copy in (
        pickle.loads(pickle.dumps(store)).reader(records[0].tracks[0]),
        pickle.loads(pickle.dumps(reader)),
    ):
        np.testing.assert_array_equal(copy.crops([1])[0], first)


def test_tracks_of_another_backend_are_refused(tmp_path: Path) -> None:
    records = write_store(tmp_path, {("train", 0): 2})
    write_track(tmp_path / records[0].tracks[0], 4, backend="mesh", backend_version="2")
    store = PreparedStore(tmp_path)
    store.reader(records[1].tracks[0])
    with pytest.raises(DataError, match=r"made by the face backend mesh 2, .* by given 1"):
        store.reader(records[0].tracks[0])


def test_what_is_no_store_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        PreparedStore(tmp_path / "absent")
    with pytest.raises(DataError, match=r"has no manifest\.jsonl; run `make data ROOT="):
        PreparedStore(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.mp4").touch()
    with pytest.raises(DataError, match="holds raw videos"):
        PreparedStore(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path, {("train", 0): 1})
    info = PreparedInfo(
        backend="given",
        backend_version="1",
        parameters={"quality": 95},
        libraries={},
        counts={},
        format_version=99,
    )
    write_prepared_info(tmp_path, info)
    with pytest.raises(DataError, match="is of format 99, this program reads 1"):
        PreparedStore(tmp_path)
    (tmp_path / "prepared.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        PreparedStore(tmp_path)
