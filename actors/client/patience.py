"""Patience: how long a client keeps trying."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client keeps trying, and how politely.

    It gives up after `tries` failures in a row, or when it is asked to wait longer than `longest_asked`. Between two
    tries it waits `first` seconds, then twice as long each time up to `longest`, less up to half of it at random; that
    comes on top of what the server asks for (Retry-After, `retry:`), so that not all it told the same return at once.
    """

    tries: int = 8
    first: float = 0.25
    longest: float = 8.0
    longest_asked: float = 60.0

    def gives_up(self, failures: int, *, asked: float | None = None) -> bool:
        """Whether the `failures`-th failure in a row (from 1) is the last."""
        return failures >= self.tries or (asked or 0.0) > self.longest_asked

    def delay(self, failures: int, rng: Random, *, asked: float | None = None) -> float:
        """Seconds to wait after the `failures`-th failure in a row."""
        ceiling = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return (asked or 0.0) + rng.uniform(ceiling / 2, ceiling)


PATIENT = Patience()
