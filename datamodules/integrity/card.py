"""The data card of a prepared folder: what it was made of, how, and by what, in comparable form.

`data_card.json` is for programs and `data_card.md` for people. Neither holds a time or a place, so
that equal folders have equal cards, and two laboratories can prove that they have the same crops:
`store_hash` names all bytes of all tracks.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.atomic import write_text_atomically
from datamodules.errors import DataError
from datamodules.integrity.counts import STATUSES, class_name, count_findings, loss_shares
from datamodules.integrity.findings import Finding, error, warning
from datamodules.integrity.video_check import track_digest
from datamodules.manifest import manifest_hash, read_manifest
from datamodules.storage.root import LocalRoot, open_root
from datamodules.store.prepared import INFO_NAME, MANIFEST_NAME
from weights.catalog import CATALOG

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from datamodules.schema import VideoRecord
    from datamodules.storage.root import DataRoot

CARD_NAME = "data_card.json"
CARD_TEXT_NAME = "data_card.md"
#: Hex digits kept of a commit. [ours]
_COMMIT_DIGITS = 16
_TERMS = (
    "to be filled in by you: the licence or terms of use of every source, whether faces may be "
    "shown, and who may be given this folder"
)
_ANOTHER = "`make data-card` writes another"
#: Options of `make data` that have another name than the parameter that they set.
OPTION_NAMES = {
    "dataset": "name",
    "start_score": "face-thres",
    "keep_score": "bbox-thres",
    "image_format": "format",
}


def data_card(
    root: DataRoot, known: Mapping[str, tuple[str, dict[str, Any]]] | None = None
) -> dict[str, Any]:
    """Describe a prepared folder.

    Args:
        root: The folder.
        known: What `track_digest` gave for its tracks, by path; read unless given.

    Returns:
        JSON values. `store_hash` is the SHA-256 over the digests of all tracks, one a line and
        sorted; a track's digest that of its `track.json`, which lists the SHA-256 of every crop
        and of the points. `sources_hash` is that over the SHA-256 of all raw files.

    Raises:
        DataError: If it is no prepared folder, or a track cannot be read.
    """
    records = read_manifest(root.local(MANIFEST_NAME))
    info = _read_json(root.local(INFO_NAME), "a prepared folder has one")
    names = [(record, track) for record in records for track in record.tracks]
    tracks = [(record, *(known[t] if known else _digest(root, t))) for record, t in names]
    parameters = dict(info.get("parameters", {}))
    store_hash = _joined_hash(digest for _, digest, _ in tracks)
    return {
        "name": parameters.get("dataset") or (records[0].dataset if records else ""),
        "store_hash": store_hash,
        "manifest_hash": manifest_hash(records),
        "sources_hash": _joined_hash(record.sha256 for record in records),
        "format_version": info.get("format_version"),
        "videos": _videos(records),
        "num_tracks": len(tracks),
        "decoders": dict(Counter(r.decoder for r in records if r.status != "unreadable")),
        "faces": _faces(info),
        "parameters": parameters,
        "libraries": dict(info.get("libraries", {})),
        "code": _kept_code(root, store_hash) or code_version(),
        "face_px": _face_sizes([(record, about) for record, _, about in tracks]),
        "limits": _limits(records),
        "reproduce": reproduce_command(parameters),
        "terms": _TERMS,
    }


def card_files(card: Mapping[str, Any]) -> dict[str, str]:
    """Give the two files of a card: name and text of each.

    Args:
        card: What `data_card` gave.
    """
    from datamodules.integrity.card_text import card_text

    text = json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False)
    return {CARD_NAME: f"{text}\n", CARD_TEXT_NAME: card_text(card)}


def write_data_card(folder: Path) -> None:
    """Write the data card of a prepared folder, each file wholly or not at all.

    Args:
        folder: The prepared folder.

    Raises:
        DataError: If it is none, or a track cannot be read.
        OSError: If the disk refuses the bytes.
    """
    for name, text in card_files(data_card(LocalRoot(folder))).items():
        write_text_atomically(folder / name, text)


def card_findings(root: DataRoot, digests: Iterable[str]) -> list[Finding]:
    """Compare a folder with the card that lies in it.

    Args:
        root: The prepared folder.
        digests: Of its tracks, as `track_digest` gives them.

    Returns:
        A warning if there is no card, an error if it describes other tracks.
    """
    if root.size(CARD_NAME) < 0:
        return [warning("data card", f"there is no {CARD_NAME}; `make data-card` writes one")]
    try:
        known = _read_json(root.local(CARD_NAME), "").get("store_hash")
    except DataError:
        return [error("data card", f"{CARD_NAME} cannot be read; {_ANOTHER}")]
    if known == _joined_hash(digests):
        return []
    wrong = "describes other tracks than there are (store_hash differs)"
    return [error("data card", f"{wrong}; if the tracks are right, {_ANOTHER}")]


def compare_cards(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Say what differs between two cards.

    Args:
        first: A card.
        second: Another one.

    Returns:
        A line for each value that differs, `name: first | second`; empty for equal cards.
    """
    a, b = _flat(first), _flat(second)
    return [
        f"{name}: {_shown(a, name)} | {_shown(b, name)}"
        for name in sorted(set(a) | set(b))
        if a.get(name) != b.get(name)
    ]


def read_card(place: str | Path) -> dict[str, Any]:
    """Read a card; one that lies in a prepared folder has to describe what is there.

    Args:
        place: The file (`*.json`), taken as it is, or the prepared folder; or the URL of either.

    Raises:
        DataError: If there is none, or the folder has changed since it was written.
    """
    text = str(place).rstrip("/")
    folder, _, name = text.rpartition("/") if text.endswith(".json") else (text, "/", CARD_NAME)
    root = open_root(folder or ("/" if text.startswith("/") else "."))
    card = _read_json(root.local(name), "`make data` and `make data-card` write one")
    if not text.endswith(".json"):
        _refuse_stale(root, card)
    return card


def _refuse_stale(root: DataRoot, card: Mapping[str, Any]) -> None:
    """Refuse a card that was written before the folder was prepared otherwise."""
    if root.size(MANIFEST_NAME) < 0:
        raise DataError(f"{root} has no {MANIFEST_NAME}: it is not finished; run `make data` again")
    records = read_manifest(root.local(MANIFEST_NAME))
    fits = card.get("manifest_hash") == manifest_hash(records)
    # Of a store far away the digests would cost the transfer of all tracks.
    if fits and isinstance(root, LocalRoot):
        digests = [_digest(root, track)[0] for record in records for track in record.tracks]
        fits = card.get("store_hash") == _joined_hash(digests)
    if not fits:
        raise DataError(
            f"{root}/{CARD_NAME} describes other data than lie there; run `make check-data` on "
            f"it; if they are right, {_ANOTHER}"
        )


def reproduce_command(parameters: Mapping[str, Any]) -> str:
    """Give the command that makes a folder with these parameters.

    Args:
        parameters: Of `prepared.json`.

    Returns:
        A command line with placeholders for the two folders.
    """
    words = []
    for name, value in sorted(parameters.items()):
        if name == "dataset" and "+" in str(value):
            # Several data sets; one name for all would make them one.
            continue
        if name == "reading":
            words.append(str(value))
            continue
        option = "--" + OPTION_NAMES.get(name, name.replace("_", "-"))
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            words += [option, shlex.quote(str(value))]
    return " ".join(
        ["python -m datamodules.preprocess --dataset <raw videos> --output <prepared>", *words]
    )


def code_version() -> str:
    """Name the commit of the code, `-dirty` added if files differ; `unknown` without git."""
    commit = _git("rev-parse", f"--short={_COMMIT_DIGITS}", "HEAD")
    if not commit:
        return "unknown"
    return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit


def _git(*words: str) -> str:
    root = Path(__file__).resolve().parents[2]
    # Only a repository of our own counts, not one that the suite was unpacked into.
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _kept_code(root: DataRoot, store_hash: str) -> str:
    """Tell which code made the tracks: that of the first card that described them."""
    if root.size(CARD_NAME) < 0:
        return ""
    try:
        card = _read_json(root.local(CARD_NAME), "")
    except DataError:
        return ""
    return str(card.get("code", "")) if card.get("store_hash") == store_hash else ""


def _read_json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as reason:
        raise DataError(f"{path} cannot be read ({reason}){remedy and '; '}{remedy}") from reason
    if not isinstance(values, dict):
        raise DataError(f"{path} holds no JSON object{remedy and '; '}{remedy}")
    return values


def _joined_hash(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{d}\n" for d in sorted(digests)).encode()).hexdigest()


def _videos(records: Sequence[VideoRecord]) -> dict[str, dict[str, int]]:
    """Count the videos by class, method, compression, split and status."""
    kinds: dict[str, list[str]] = {
        "class": [class_name(r) for r in records],
        "method": [r.method or class_name(r) for r in records],
        "compression": [r.compression or "unknown" for r in records],
        "split": [r.split for r in records],
        "status": [r.status for r in records],
    }
    counts = {name: dict(sorted(Counter(found).items())) for name, found in kinds.items()}
    return {"all": {"videos": len(records)}, **counts}


def _faces(info: Mapping[str, Any]) -> dict[str, Any]:
    """Name the face backend, and the weights that its version tells of."""
    version = str(info.get("backend_version", ""))
    used = [entry for entry in CATALOG if entry.sha256[:8] in version.split("-")]
    weights = {entry.name: {"sha256": entry.sha256, "licence": entry.licence} for entry in used}
    return {"backend": info.get("backend"), "version": version, "weights": weights}


def _digest(root: DataRoot, track: str) -> tuple[str, dict[str, Any]]:
    with root.hold(track) as file:
        return track_digest(file)


def _face_sizes(tracks: Sequence[tuple[VideoRecord, Mapping[str, Any]]]) -> dict[str, float]:
    """Give the median width of a face in pixels by class: sizes that differ tell the class."""
    sizes: dict[str, list[float]] = defaultdict(list)
    for record, about in tracks:
        size = about.get("figures", {}).get("face_px")
        if size is not None:
            sizes[class_name(record)].append(float(size))
    return {name: round(sorted(found)[len(found) // 2], 1) for name, found in sizes.items()}


def _limits(records: Sequence[VideoRecord]) -> list[str]:
    """Say what a user of the data should know."""
    lines = []
    for name, share in loss_shares(records).items():
        statuses = Counter(str(r.status) for r in records if class_name(r) == name)
        told = ", ".join(f"{statuses[s]} {s}" for s in STATUSES if s != "ok")
        lines.append(f"{name}: {100 * share:.1f} % of {statuses.total()} videos lost ({told})")
    several = sum(len(record.tracks) > 1 for record in records)
    lines.append(f"{several} video(s) have several tracks, each of which gets the video's label")
    return lines + [finding.line for finding in count_findings(records)]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Give nested values by their dotted names."""
    if not isinstance(value, dict):
        return {name: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{name}.{key}" if name else str(key))
    return found


def _shown(values: Mapping[str, Any], name: str) -> str:
    return str(values[name]) if name in values else "(absent)"
