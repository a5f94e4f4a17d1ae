"""How often a step is tried again, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

DELIVERIES = 500
"""A hand-off delivered so often is dead whatever its log says: the backstop for what kills workers at once.

It is far more than a stage has replicas: what comes to one that has just been filled from another queue goes straight
back, and counts, too.
"""


@dataclass(frozen=True, slots=True)
class Retry:
    """The budgets of one hand-off. Failures and crashes count apart; a hand-back costs nothing.

    `attempts` failures, or `crashes` workers lost while they ran it, and the job is a dead letter.
    Delays are in seconds: exponential from `first`, at most `longest`, with full jitter (any value down to zero).
    """

    attempts: int = 3
    crashes: int = 3
    first: float = 0.5
    longest: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.crashes < 1:
            raise ValueError("a budget has at least one attempt and one crash: Retry(attempts=1, crashes=1)")
        if not 0 <= self.first <= self.longest:
            raise ValueError(f"Retry(first={self.first}, longest={self.longest}): first must lie between 0 and longest")

    def delay(self, failures: int, rng: Random) -> float:
        """Seconds to wait after the `failures`-th failure (from 1)."""
        ceiling = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return rng.uniform(0.0, ceiling)

    def spent(self, failures: int, crashes: int) -> bool:
        """Whether a step with this history may not be tried again."""
        return failures >= self.attempts or crashes >= self.crashes
