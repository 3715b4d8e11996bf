"""CPU seconds by what they were spent on."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Times:
    """CPU seconds by what they were spent on."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def take(self, what: str, action: Callable[[], Any]) -> Any:
        """Do something and book its time."""
        start = time.process_time()
        result = action()
        self.seconds[what] += time.process_time() - start
        return result
