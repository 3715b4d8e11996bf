import hashlib
import os
import pickle
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from datamodules.errors import DataError
from datamodules.storage import remote, service
from datamodules.storage.cache import FileCache
from datamodules.storage.output import LocalOutput, OutputRoot, open_output
from datamodules.storage.remote import RemoteRoot
from datamodules.storage.root import is_url, open_root
from tests.support.s3 import CuttingProxy

REPOSITORY = Path(__file__).parents[3]
CONTENT = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PIECE_BYTES", 2**18)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "FIRST_WAIT_S", 0.01)


def test_urls_are_told_from_folders() -> None:
    assert is_url("s3://bucket/prefix")
    assert is_url("gs://bucket")
    assert is_url("S3://bucket")
    assert not is_url("data/s3")
    assert not is_url("C://x")
    assert not is_url(Path("s3://bucket"))


@pytest.fixture(params=["folder", "bucket"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> OutputRoot:
    if request.param == "folder":
        return LocalOutput(tmp_path / "out")
    return open_output(f"{request.getfixturevalue('bucket')}/some/prefix/")


def test_both_kinds_of_roots_do_the_same(output: OutputRoot) -> None:
    assert output.files() == []
    output.write("a/é 视频.txt", b"one")
    output.write("a/b/c.txt", b"")
    output.write("ab.txt", b"two")
    assert output.files() == ["a/b/c.txt", "a/é 视频.txt", "ab.txt"]
    assert output.files("a") == ["a/b/c.txt", "a/é 视频.txt"]
    assert output.files("absent") == []
    assert [output.size(path) for path in ("ab.txt", "a/b/c.txt", "a", "x")] == [3, 0, -1, -1]
    assert output.modified_ns("ab.txt") > 10**18
    assert output.modified_ns("x") == -1
    assert (output.read("ab.txt"), output.read("x")) == (b"two", None)
    assert output.read_all(["ab.txt", "x", *map(str, range(20))]) == {"ab.txt": b"two"}
    with output.hold("a") as folder, output.hold("x") as absent:
        assert (folder / "é 视频.txt").read_bytes() == b"one"
        assert (folder / "b" / "c.txt").read_bytes() == b""
        assert folder == output.folder / "a"
        assert not absent.exists()
    assert output.local("ab.txt").read_bytes() == b"two"
    output.write("ab.txt", b"three")
    assert output.local("ab.txt").read_bytes() == b"three"
    assert output.local("ab.txt").stat().st_mtime_ns == output.modified_ns("ab.txt")
    with output.workspace() as folder:
        (folder / "made").mkdir(parents=True)
        (folder / "made" / "z").write_bytes(b"z")
    assert output.size("made/z") == 1
    output.remove(["made/z", "never/there", *(f"no{i}" for i in range(20))])
    assert output.size("made/z") == -1
    again = pickle.loads(pickle.dumps(output))
    assert again.read("ab.txt") == b"three"
    with output.only_run(), pytest.raises(DataError, match="another process is writing into"):
        again.only_run().__enter__()
    output.clean()


def test_a_workspace_that_fails_sends_nothing(bucket: str) -> None:
    root = RemoteRoot(bucket)
    with suppress(ZeroDivisionError), root.workspace() as folder:
        (folder / "half").touch()
        raise ZeroDivisionError
    assert root.files() == []


def test_copies_follow_the_bucket(bucket: str) -> None:
    root = RemoteRoot(bucket)
    root.write("v/a.txt", b"one")
    root.write("v/b.txt", b"one")
    with root.hold("v/a.txt") as file:
        assert file.read_bytes() == b"one"
    root.write("v/a.txt", b"two")  # of the same size
    with root.hold("v/a.txt") as file:
        assert file.read_bytes() == b"two"
    with root.hold("v") as folder:
        assert {path.name for path in folder.iterdir()} == {"a.txt", "b.txt"}
    root.remove(["v/b.txt"])
    with root.hold("v") as folder:
        assert {path.name for path in folder.iterdir()} == {"a.txt"}
    root.remove(["v/a.txt"])
    with root.hold("v/a.txt") as file:
        assert not file.exists()


def test_objects_that_cannot_be_files_are_left_out_and_told(bucket: str) -> None:
    root = RemoteRoot(f"{bucket}/set")
    for path in ("real/ok.mp4", "real/ok.mp4/inner.mp4", "real//abs.mp4", "real/sub/b.mp4"):
        root.write(path, b"x")
    assert root.notes == []
    assert root.files() == root.files("real") == ["real/ok.mp4", "real/sub/b.mp4"]
    (note,) = root.notes
    assert note.startswith("2 object(s) are left out")
    assert note.endswith("as real//abs.mp4")
    with root.hold("real") as folder:
        assert sorted(path.name for path in folder.rglob("*.mp4")) == ["b.mp4", "ok.mp4"]


def test_an_interrupted_transfer_goes_on(
    bucket: str, proxy: CuttingProxy, small_pieces: None, quick: None
) -> None:
    root = RemoteRoot(bucket)
    root.write("big.bin", CONTENT)
    proxy.cut_after = 600_000
    with pytest.raises(DataError, match="cannot be reached after 7 tries"):
        root.hold("big.bin").__enter__()
    proxy.cut_after, proxy.num_bytes = None, 0
    with RemoteRoot(bucket).hold("big.bin") as file:
        assert file.read_bytes() == CONTENT
    # Two of four pieces had arrived; a little is for the headers.
    assert 2**19 <= proxy.num_bytes < 2**19 + 50_000
    with RemoteRoot(bucket).hold("big.bin") as file:
        assert file.read_bytes() == CONTENT
    assert proxy.num_bytes < 2**19 + 60_000  # nothing was fetched again


def test_a_connection_that_is_cut_once_costs_one_piece(
    bucket: str, proxy: CuttingProxy, small_pieces: None, quick: None
) -> None:
    root = RemoteRoot(bucket)
    root.write("big.bin", CONTENT)
    proxy.num_bytes = 0
    entry, cuts = service.Service.read, []

    def cut_once(self: service.Service, path: str, start: int, end: int) -> bytes | None:
        if start == 2**19 and not cuts:
            cuts.append(start)
            proxy.cut_after = 100_000

            threading.Timer(0.3, proxy.heal).start()
        return entry(self, path, start, end)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.Service, "read", cut_once)
        with root.hold("big.bin") as file:
            assert file.read_bytes() == CONTENT
    assert cuts
    assert proxy.num_bytes < 2**20 + 2**18 + 50_000


def test_a_file_that_changes_between_transfers_starts_afresh(
    bucket: str, proxy: CuttingProxy, small_pieces: None, quick: None
) -> None:
    root = RemoteRoot(bucket)
    root.write("big.bin", CONTENT)
    proxy.cut_after = 600_000
    with pytest.raises(DataError):
        root.hold("big.bin").__enter__()
    proxy.cut_after = None
    root.write("big.bin", CONTENT[::-1])
    with root.hold("big.bin") as file:
        assert file.read_bytes() == CONTENT[::-1]


def test_a_file_that_changes_while_it_is_fetched_starts_afresh(
    bucket: str, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = RemoteRoot(bucket)
    root.write("big.bin", CONTENT)
    read, changed = service.Service.read, []

    def change(self: service.Service, path: str, start: int, end: int) -> bytes | None:
        if start and not changed:
            changed.append(True)
            RemoteRoot(bucket).write("big.bin", CONTENT[::-1])
        return read(self, path, start, end)

    monkeypatch.setattr(service.Service, "read", change)
    with root.hold("big.bin") as file:
        assert file.read_bytes() == CONTENT[::-1]


def test_a_changed_file_is_known_by_its_hash(bucket: str) -> None:
    root = RemoteRoot(bucket)
    root.write("t.zip", b"as it was prepared")
    known = hashlib.sha256(b"as it was prepared").hexdigest()
    with root.hold("t.zip", known) as file:
        assert file.read_bytes() == b"as it was prepared"
    root.write("t.zip", b"as somebody changed it")
    # The copy is still what was prepared; whoever has none is told.
    with root.hold("t.zip", known) as file:
        assert file.read_bytes() == b"as it was prepared"
    with root.hold("t.zip"):
        pass
    with pytest.raises(DataError, match=r"t\.zip has changed: its sha256 is .* put the old file"):
        root.hold("t.zip", known).__enter__()
    root.write("t.zip", b"as it was prepared")
    with root.hold("t.zip", known) as file:
        assert file.read_bytes() == b"as it was prepared"


def test_the_cache_stays_below_its_bound(
    bucket: str, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGERY_CACHE_GB", "0.003")
    root = RemoteRoot(bucket)
    for i in range(6):
        root.write(f"{i}.bin", CONTENT[i:])
    for i in (0, 1, 2, 0, 3, 4, 5, 0):
        with root.hold(f"{i}.bin") as file:
            assert file.read_bytes() == CONTENT[i:]
        there = sum(path.stat().st_size for path in cache_folder.rglob("*.bin"))
        assert there <= 3_000_000
    root.write("huge.bin", CONTENT * 4)
    with root.hold("huge.bin") as file:
        assert file.read_bytes() == CONTENT * 4
    assert not list(cache_folder.rglob("huge.bin"))


SHARING = """
import random, sys
from datamodules.storage.remote import RemoteRoot
root = RemoteRoot(sys.argv[1])
random.seed(int(sys.argv[2]))
for i in [random.randrange(8) for _ in range(30)]:
    with root.hold(f"{i}.bin") as file:
        assert file.read_bytes() == bytes([i]) * 100_000
"""


def test_processes_share_the_cache(bucket: str, cache_folder: Path) -> None:
    root = RemoteRoot(bucket)
    for i in range(8):
        root.write(f"{i}.bin", bytes([i]) * 100_000)
    environment = {**os.environ, "FORGERY_CACHE_GB": "0.0005"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", SHARING, bucket, str(i)], cwd=REPOSITORY, env=environment
        )
        for i in range(2)
    ]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    assert sum(path.stat().st_size for path in cache_folder.rglob("*.bin")) <= 500_000
    assert FileCache(cache_folder, 500_000).about(f"{root.folder.name}/absent") == {}


def test_what_is_wrong_is_one_line(
    bucket: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    with pytest.raises(DataError, match="there is no bucket absent-bucket"):
        open_root("s3://absent-bucket/raw").files()
    with pytest.raises(DataError, match="cannot be used"):
        open_output("s3://absent-bucket/raw").write("a", b"")
    with pytest.raises(DataError, match="names no bucket"):
        open_root("s3://")
    with pytest.raises(DataError, match="cannot be opened"):
        open_root("nonsense://x/y")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(DataError, match=r"pip install -e '.\[s3\]' and gcsfs"):
        open_root("gs://bucket/x")
    with pytest.raises(DataError, match=r"names with '\.\.' are not read"):
        open_root(bucket).local("../x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(DataError, match=r"cannot be reached after 7 tries .*AWS_ENDPOINT_URL"):
        open_root(bucket).files()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(DataError, match=r"refuses access .*AWS_ACCESS_KEY_ID"):
        open_root(bucket).files()


def test_protocols_may_be_typed_in_capitals(bucket: str) -> None:
    RemoteRoot(bucket).write("a.txt", b"one")
    root = open_root(bucket.replace("s3://", "S3://"))
    assert (str(root), root.read("a.txt")) == (bucket, b"one")
