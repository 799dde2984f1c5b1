"""The time that several solves have together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Clock:
    """The time that is left for iterations.

    :ivar limit: seconds, or `None`.
    """

    limit: float | None
    began: float = field(default_factory=time.perf_counter)

    def restart(self) -> None:
        """What was done before is not counted."""
        self.began = time.perf_counter()

    def left(self) -> float | None:
        """Seconds, `None` without a limit."""
        return None if self.limit is None else max(self.limit - time.perf_counter() + self.began, 0)
