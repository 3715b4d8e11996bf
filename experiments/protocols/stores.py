"""Where the videos of a test set are prepared, and which of them it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.errors import DataError
from datamodules.manifest import read_manifest
from datamodules.store.prepared import MANIFEST_NAME
from experiments.dataset_names import plain
from experiments.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from datamodules.schema import VideoRecord
    from experiments.protocols.schema import TestSet

#: Where prepared stores are looked for.
DEFAULT_STORES = Path("data")
#: Where data sets of DeepfakeBench's JSON files are prepared, a store each.
BENCH_STORES = Path("data") / "deepfakebench"
_BENCH_JSON = ("dataset_json", "preprocessing/dataset_json")
#: Ending of a subset of DF40 -> the data set of its real videos.
_REALS = {"_ff": "ffpp", "_cdf": "celebdfv2"}


@dataclass(frozen=True)
class Found:
    """The videos of a test set.

    Attributes:
        root: Their prepared store.
        videos: Those that are tested.
    """

    root: Path
    videos: tuple[VideoRecord, ...]


@dataclass
class Stores:
    """Prepared stores, and roots of DeepfakeBench that can become some.

    Attributes:
        named: Stores that were given for one data set, by its plain name.
        roots: Stores that are searched, in this order.
        benches: Roots of DeepfakeBench.
    """

    named: dict[str, Path] = field(default_factory=dict)
    roots: list[Path] = field(default_factory=list)
    benches: list[Path] = field(default_factory=list)
    _manifests: dict[Path, list[VideoRecord]] = field(default_factory=dict)

    def find(self, wanted: TestSet) -> Found | None:
        """Find the videos of a set.

        Args:
            wanted: The set.

        Returns:
            The first store that has test videos of it; None if none has, or they are of one class.

        Raises:
            DataError: If a manifest is damaged, or a root of DeepfakeBench cannot be prepared.
        """
        given = self.named.get(plain(wanted.source))
        for root in self.roots if given is None else [given]:
            name = None if given is None else self._only_data_set(root)
            videos = select(wanted, self.records(root), name)
            if len({video.label for video in videos}) == 2:
                return Found(root, tuple(videos))
        made = None if given else self._prepare(wanted)
        if made is None:
            return None
        videos = select(wanted, self.records(made))
        return Found(made, tuple(videos)) if videos else None

    def _only_data_set(self, root: Path) -> str | None:
        """Name the one data set of a store: own folders are called by what the user calls them."""
        names = {record.dataset for record in self.records(root)}
        return names.pop() if len(names) == 1 else None

    def records(self, root: Path) -> list[VideoRecord]:
        """Read a manifest once.

        Args:
            root: Of the store.
        """
        if root not in self._manifests:
            self._manifests[root] = read_manifest(root / MANIFEST_NAME)
        return self._manifests[root]

    def _prepare(self, wanted: TestSet) -> Path | None:
        """Prepare a data set of DeepfakeBench; what is prepared already takes a moment."""
        for bench in self.benches:
            name = _json_name(bench, wanted.source)
            if name is not None:
                return prepare_bench(bench, name)
        return None


def find_stores(words: Sequence[str]) -> Stores:
    """Understand where stores are.

    Args:
        words: Each `<data set>=<store>`, a store, a folder of stores, or a root of DeepfakeBench;
            none for the folder `data`.

    Raises:
        UsageError: If one is none of these.
    """
    stores = Stores()
    for word in words or ([str(DEFAULT_STORES)] if DEFAULT_STORES.is_dir() else []):
        name, equals, path = word.partition("=")
        root = Path(path if equals else word)
        if (root / MANIFEST_NAME).is_file():
            if equals:
                stores.named[plain(name)] = root
            else:
                stores.roots.append(root)
        elif equals:
            raise UsageError(f"{word}: {root} is no prepared store (no {MANIFEST_NAME})")
        else:
            found = list(_below(root))
            is_bench = any((root / folder).is_dir() for folder in _BENCH_JSON)
            stores.roots += found
            stores.benches += [root] if is_bench else []
            if words and not found and not is_bench:
                raise UsageError(
                    f"{root}: neither a prepared store, nor a folder of some, nor a root of "
                    "DeepfakeBench (dataset_json/)"
                )
    return stores


def select(
    wanted: TestSet, records: Sequence[VideoRecord], dataset: str | None = None
) -> list[VideoRecord]:
    """Choose the test videos of a set.

    Args:
        wanted: The set.
        records: Of a store.
        dataset: What the store calls the data set; None for its own name.

    Returns:
        Its fakes and its reals, in their order. Where the data set has forged videos only, the
        reals are those of the data set it was made of.
    """
    tests = [
        record
        for record in records
        if record.split == "test"
        and (not wanted.compression or record.compression == wanted.compression)
    ]
    name = plain(dataset or wanted.source)
    fakes = {
        record.video_id
        for record in tests
        if record.label == 1
        and plain(record.dataset) == name
        and (not wanted.methods or record.method in wanted.methods)
    }
    reals = {r.video_id for r in tests if r.label == 0 and plain(r.dataset) == name}
    source = next((its for end, its in _REALS.items() if wanted.source.endswith(end)), None)
    if not reals and source:
        reals = {r.video_id for r in tests if r.label == 0 and plain(r.dataset) == source}
    return [record for record in tests if record.video_id in fakes | reals] if fakes else []


def prepare_bench(root: Path, name: str) -> Path:
    """Prepare one data set of DeepfakeBench's JSON files.

    Args:
        root: Of DeepfakeBench.
        name: Of the data set, as its file has it.

    Returns:
        The store.

    Raises:
        DataError: If it cannot be prepared.
    """
    from datamodules.preprocess.__main__ import main as prepare

    out = BENCH_STORES / name
    words = ["--layout", "deepfakebench", "--dataset", str(root), "--subset", name]
    code = prepare([*words, "--output", str(out), "--backend", "bench"])
    if not (out / MANIFEST_NAME).is_file():
        raise DataError(f"{name} of {root} could not be prepared (exit code {code}); see above")
    return out


def _below(root: Path) -> Iterator[Path]:
    """Yield the stores in a folder, and one level deeper."""
    for pattern in ("*", "*/*"):
        yield from (path.parent for path in sorted(root.glob(f"{pattern}/{MANIFEST_NAME}")))


def _json_name(bench: Path, dataset: str) -> str | None:
    for folder in _BENCH_JSON:
        for file in sorted((bench / folder).glob("*.json")):
            if plain(file.stem) == plain(dataset):
                return file.stem
    return None
