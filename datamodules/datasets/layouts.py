"""The data sets that can be read as they are distributed: a reader for each folder layout.

A reader takes a root and options and returns the videos as records. To add a layout: write a
module whose docstring shows the expected tree, with a function `read(root, options)`, and add
one line to `LAYOUTS`.
"""

from __future__ import annotations

import inspect
import shlex
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from datamodules.datasets.adapter import LayoutOptions
from datamodules.errors import DataError

if TYPE_CHECKING:
    from datamodules.datasets.records import SourceFolder
    from datamodules.storage.root import DataRoot


class Reader(Protocol):
    """What every layout's module offers."""

    def __call__(self, root: DataRoot, options: LayoutOptions) -> SourceFolder:
        """Read a data set.

        Args:
            root: Where it lies.
            options: Of the user's.

        Returns:
            The records and what to say about them.

        Raises:
            DataError: If something is missing; says what, where, and what to do.
        """


@dataclass(frozen=True)
class Layout:
    """A data set in the folders that it is distributed in.

    Attributes:
        title: The name of the data set.
        reader: `module:function`, imported when it is needed; the docstring of the module shows
            the expected tree.
        takes: Those of the options `manifest`, `compression`, `subsets`, `keep_apart`, `json`
            and `resplit` that mean something to it; all layouts take the others.
    """

    title: str
    reader: str
    takes: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """Name of the module that holds the reader."""
        return self.reader.partition(":")[0]


_HERE = "datamodules.datasets"
_PARTS = ("compression", "subsets")
LAYOUTS: dict[str, Layout] = {
    "folder": Layout("any videos in real/ and fake/", f"{_HERE}.folder:read_plain", ("manifest",)),
    "ffpp": Layout("FaceForensics++", f"{_HERE}.ffpp:read_ffpp", _PARTS),
    "faceshifter": Layout(
        "FaceShifter, in FaceForensics++", f"{_HERE}.ffpp:read_faceshifter", ("compression",)
    ),
    "dfd": Layout("DeepFakeDetection", f"{_HERE}.dfd:read_dfd", ("compression", "keep_apart")),
    "celeb_df_v1": Layout("Celeb-DF v1", f"{_HERE}.celeb_df:read_celeb_df_v1", ("keep_apart",)),
    "celeb_df_v2": Layout("Celeb-DF v2", f"{_HERE}.celeb_df:read_celeb_df_v2", ("keep_apart",)),
    "celeb_df_pp": Layout(
        "Celeb-DF++", f"{_HERE}.celeb_df:read_celeb_df_pp", ("subsets", "keep_apart")
    ),
    "dfdc": Layout("DFDC", f"{_HERE}.dfdc:read_dfdc", ("keep_apart",)),
    "dfdcp": Layout("DFDC preview", f"{_HERE}.dfdc:read_dfdcp", ("subsets", "keep_apart")),
    "deeperforensics": Layout(
        "DeeperForensics-1.0",
        f"{_HERE}.deeperforensics:read_deeperforensics",
        ("subsets", "keep_apart"),
    ),
    "wilddeepfake": Layout("WildDeepfake", f"{_HERE}.wilddeepfake:read_wilddeepfake"),
    "uadfv": Layout("UADFV", f"{_HERE}.uadfv:read_uadfv"),
    "deepfakebench": Layout(
        "DeepfakeBench and DF40 by their JSON files",
        f"{_HERE}.deepfakebench:read_bench",
        ("json", "subsets", "compression", "keep_apart", "resplit"),
    ),
    "df40": Layout("DF40 by its folders", f"{_HERE}.df40:read_df40", ("subsets", "keep_apart")),
}
_FLAGS = {
    "manifest": "--csv",
    "compression": "--compression",
    "subsets": "--subset",
    "keep_apart": "--keep-apart",
    "json": "--json",
    "resplit": "--split-from",
}


def read_layout(name: str, root: DataRoot, options: LayoutOptions) -> SourceFolder:
    """Read a data set by the name of its layout.

    Args:
        name: A key of `LAYOUTS`.
        root: Where it lies.
        options: Of the user's.

    Returns:
        The records and what to say about them.

    Raises:
        DataError: If there is no such layout, an option means nothing to it, or the reader finds
            something missing.
    """
    layout = LAYOUTS.get(name)
    if layout is None:
        raise DataError(f"there is no layout {name!r}; known are: {', '.join(LAYOUTS)}")
    for option, flag in _FLAGS.items():
        asked = getattr(options, option) != getattr(LayoutOptions(), option)
        if asked and option not in layout.takes:
            takers = [other for other, its in LAYOUTS.items() if option in its.takes]
            raise DataError(f"layout {name} takes no {flag}; these do: {', '.join(takers)}")
    if options.all_test and options.split_file:
        raise DataError("--all-test and --split exclude each other; give one of them")
    reader: Reader = getattr(import_module(layout.module), layout.reader.partition(":")[2])
    return replace(reader(root, options), reading=_reading(name, options))


def _reading(name: str, options: LayoutOptions) -> str:
    """Put the choices of a user into words of a command line, without the places of his files."""
    words = ["--layout", name]
    words += ["--compression", options.compression] if options.compression else []
    for subset in options.subsets:
        words += ["--subset", subset]
    if options.keep_apart != LayoutOptions().keep_apart:
        words += ["--keep-apart", options.keep_apart]
    words += ["--split-from", "ours"] if options.resplit else []
    words += ["--all-test"] if options.all_test else []
    words += ["--split", "<split.csv>"] if options.split_file else []
    words += ["--csv", "<manifest.csv>"] if options.manifest else []
    words += ["--json", "<dataset_json>"] if options.json else []
    return shlex.join(words)


def describe_layouts() -> str:
    """Describe every layout: its name, its data set, and the folders that it expects.

    Returns:
        Text for a terminal; layouts that share a module share its description.
    """
    modules = dict.fromkeys(layout.module for layout in LAYOUTS.values())
    blocks = []
    for module in modules:
        heads = [_head(n, each) for n, each in LAYOUTS.items() if each.module == module]
        text = inspect.getdoc(import_module(module)) or ""
        lines = [f"    {line}".rstrip() for line in text.split("\n")]
        blocks.append("\n".join([*heads, "", *lines]))
    return "\n\n".join(blocks)


def _head(name: str, layout: Layout) -> str:
    """Name a layout, its data set and the options that only some layouts take."""
    flags = ", ".join(_FLAGS[option] for option in layout.takes)
    return f"{name}: {layout.title}" + (f" (takes {flags})" if flags else "")
