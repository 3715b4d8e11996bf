"""A data card, written for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def card_text(card: Mapping[str, Any]) -> str:
    """Write a card as Markdown.

    Args:
        card: What `datamodules.integrity.card.data_card` gave.

    Returns:
        The text, with a line end.
    """
    faces = card["faces"]
    lines = [
        f"# Data card: {card['name']}",
        "",
        "Two folders with the same store hash hold the same crops, byte for byte;",
        "`python -m datamodules.integrity --compare A B` says what else differs.",
        "",
        *_table(
            {
                "store hash": card["store_hash"],
                "manifest hash": card["manifest_hash"],
                "sources hash": card["sources_hash"],
                "format": card["format_version"],
                "code": card["code"],
            }
        ),
        "## Videos",
        "",
        f"{card['videos']['all']['videos']} videos, {card['num_tracks']} face tracks.",
        "",
    ]
    for name in ("class", "split", "status", "compression", "method"):
        lines += [f"- by {name}: {_counts(card['videos'][name])}"]
    lines += [f"- by decoder: {_counts(card['decoders'])}"]
    lines += [f"- median width of a face in pixels: {_counts(card['face_px']) or 'not recorded'}"]
    lines += ["", "## Made with", "", f"Face backend `{faces['backend']}` {faces['version']}."]
    if faces["weights"]:
        lines += ["", "| weights | sha256 | licence |", "|---|---|---|"]
        for name, entry in faces["weights"].items():
            lines.append(f"| {name} | {entry['sha256']} | {entry['licence']} |")
    else:
        lines.append("Its weights, if it has any, are not in the catalogue of this suite.")
    lines += ["", *_table(card["parameters"]), *_table(card["libraries"])]
    lines += ["To make it again:", "", "```bash", card["reproduce"], "```", ""]
    lines += ["## Known limits", "", *(f"- {line}" for line in card["limits"]), ""]
    lines += ["## Licence and terms", "", f"**{card['terms']}**"]
    return "\n".join(lines) + "\n"


def _table(values: Mapping[str, Any]) -> list[str]:
    rows = [f"| {name.replace('_', ' ')} | {value} |" for name, value in values.items()]
    return ["| | |", "|---|---|", *rows, ""] if rows else []


def _counts(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
