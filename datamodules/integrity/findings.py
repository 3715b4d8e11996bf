"""What an audit finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]
#: Names that one line shows; reports hold all. [ours]
_MAX_NAMED = 5


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or that a user should know before trusting the data.

    Attributes:
        level: `error` for what makes results wrong, `warning` for what may.
        check: Which check found it, in a word or two.
        message: What is wrong, one line.
        items: All that it concerns, such as ids of videos.
    """

    level: Level
    check: str
    message: str
    items: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The message with the first of its items."""
        if not self.items:
            return self.message
        rest = len(self.items) - _MAX_NAMED
        more = f" and {rest} more" if rest > 0 else ""
        return f"{self.message}: {', '.join(self.items[:_MAX_NAMED])}{more}"


def error(check: str, message: str, *items: str) -> Finding:
    """Make a finding of level error."""
    return Finding("error", check, message, items)


def warning(check: str, message: str, *items: str) -> Finding:
    """Make a finding of level warning."""
    return Finding("warning", check, message, items)
