import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datamodules.errors import DataError
from datamodules.storage.cache import FileCache, shared_cache

REPOSITORY = Path(__file__).parents[3]


def put(cache: FileCache, name: str, num_bytes: int) -> None:
    """Bring a file as a root does."""
    with cache.lease(name), cache.fetching(name):
        cache.allot(name, num_bytes)
        cache.accept(name, 10**18, {"version": "1"})


def names(cache: FileCache) -> set[str]:
    return {p.relative_to(cache.files).as_posix() for p in cache.files.rglob("*") if p.is_file()}


def size(cache: FileCache) -> int:
    files = [*cache.files.rglob("*"), *(cache.folder / "parts").iterdir()]
    return sum(path.stat().st_size for path in files if path.is_file())


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 1000)
    for name in ("r/a", "r/b", "r/c"):
        put(cache, name, 300)
    with cache.lease("r/a"):
        pass
    put(cache, "r/d", 300)
    assert names(cache) == {"r/a", "r/c", "r/d"}
    assert cache.about("r/a") == {"version": "1"}
    assert cache.about("r/b") == {}
    assert (cache.files / "r/a").stat().st_mtime_ns == 10**18
    for i in range(50):
        put(cache, f"r/{i}", 90 + i)
        assert size(cache) <= 1000


def test_leased_files_and_folders_stay(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 1000)
    with cache.lease("r/folder"), cache.lease("r/file"):
        for name in ("r/folder/x", "r/folder/deep/y", "r/file", "r/other"):
            put(cache, name, 240)
        put(cache, "r/new", 240)
        assert names(cache) == {"r/folder/x", "r/folder/deep/y", "r/file", "r/new"}
        # Whoever needs more than there is gets it for as long as it is in use.
        put(cache, "r/huge", 5000)
    assert size(cache) <= 1000


def test_a_file_larger_than_the_cache_stays_while_it_is_used(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 1000)
    put(cache, "r/small", 100)
    with cache.lease("r/huge") as target:
        put(cache, "r/huge", 3000)
        assert target.stat().st_size == 3000
        with target.open("rb") as handle:
            cache.discard("r/huge")
            assert len(handle.read()) == 3000
        put(cache, "r/huge", 3000)
    assert names(cache) == set()


def test_a_lease_may_outlive_the_folder(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache", 1000)
    with cache.lease("r/a"):
        shutil.rmtree(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_books_that_were_lost_are_made_again(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 1000)
    for i in range(3):
        put(cache, f"r/{i}", 300)
    (tmp_path / "total").write_text("torn")
    put(cache, "r/new", 300)
    assert size(cache) <= 1000
    assert "r/new" in names(cache)


def test_a_killed_process_holds_no_lease_and_leaves_no_workspace(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 1000)
    put(cache, "r/a", 600)
    script = (
        "import sys, time; from pathlib import Path; "
        "from datamodules.storage.cache import FileCache\n"
        f"cache = FileCache(Path({str(tmp_path)!r}), 1000)\n"
        "with cache.lease('r/a'), cache.workspace() as folder:\n"
        "    (folder / 'x').touch(); sys.stdout.write('ready\\n'); sys.stdout.flush(); "
        "time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    with cache.lease("r/b"):
        put(cache, "r/b", 600)
        assert names(cache) == {"r/a", "r/b"}
    cache.clean()
    assert len(list((tmp_path / "work").iterdir())) == 1
    process.kill()
    process.communicate()
    cache.clean()
    assert not list((tmp_path / "work").iterdir())
    put(cache, "r/c", 600)
    assert names(cache) == {"r/c"}


SHARING = """
import os, random, sys
from pathlib import Path
from datamodules.storage.cache import FileCache
cache = FileCache(Path(sys.argv[1]), 3000)
random.seed(int(sys.argv[2]))
for _ in range(150):
    name = f"r/{random.randrange(12)}"
    with cache.lease(name) as target:
        with cache.fetching(name):
            if not cache.about(name):
                cache.allot(name, 500)
                with cache.part(name).open("r+b") as file:
                    file.write(name.encode().ljust(500))
                cache.accept(name, 1, {"version": 1})
        assert target.read_bytes() == name.encode().ljust(500)
"""


def test_processes_share_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHARING, str(tmp_path)]
    workers = [subprocess.Popen([*command, str(i)], cwd=REPOSITORY) for i in range(3)]
    cache = FileCache(tmp_path, 3000)
    largest = 0
    while any(worker.poll() is None for worker in workers):
        # Else a file that is removed and fetched again meanwhile may be counted beside another.
        with cache._books():
            largest = max(largest, size(cache))
        time.sleep(0.005)
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert 0 < largest <= 3000
    assert size(cache) <= 3000


def test_the_environment_names_folder_and_size(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGERY_CACHE_GB", "0.5")
    cache = shared_cache()
    assert (cache.folder, cache.max_bytes) == (cache_folder, 500_000_000)
    for wrong in ("many", "0", "-1", "inf", "nan"):
        monkeypatch.setenv("FORGERY_CACHE_GB", wrong)
        with pytest.raises(DataError, match=f"FORGERY_CACHE_GB is '{wrong}'"):
            shared_cache()
    monkeypatch.delenv("FORGERY_CACHE_GB")
    (cache_folder.parent / "file").touch()
    monkeypatch.setenv("FORGERY_CACHE", os.fspath(cache_folder.parent / "file"))
    with pytest.raises(DataError, match="name another one in FORGERY_CACHE"):
        shared_cache()
