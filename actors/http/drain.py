"""A drain: how fast something goes down, and when to come back for it."""

from __future__ import annotations

import math
from collections import deque

WINDOW_S = 30.0
"""How far back a rate looks."""

LONGEST_S = 60
"""Nobody is asked to stay away for longer than this, in seconds."""

STANDSTILL_S = 30
"""How long to stay away while nothing drains: whatever it is, it is not over in a moment."""


class Drain:
    """A total that grows as things leave, looked at now and then; `rate` is how many leave each second."""

    def __init__(self, window: float = WINDOW_S) -> None:
        self._window = window
        self._seen: deque[tuple[float, float]] = deque()

    def note(self, at: float, total: float) -> None:
        """What the total was at a time, in seconds. One that went back begins anew."""
        if self._seen and total < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((at, total))
        while len(self._seen) > 2 and self._seen[1][0] <= at - self._window:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """0 while nothing leaves, or where that is not known yet."""
        if len(self._seen) < 2:
            return 0.0
        (began, before), (ended, after) = self._seen[0], self._seen[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    def retry_after(self, excess: float) -> int:
        """In how many whole seconds so much of it has left, at this rate."""
        if self.rate <= 0:
            return STANDSTILL_S
        return min(LONGEST_S, max(1, math.ceil(excess / self.rate)))
