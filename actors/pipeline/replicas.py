"""Replicas: between how few and how many of them a stage has, and how its lag decides on their number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Replicas:
    """A number of replicas that follows the lag: `stage(replicas=Replicas(max=4))`.

    There is one for every `lag_per_replica` jobs that wait or run (without it, for as many as one replica runs at a
    time), but never fewer than `min` or more than `max`; with `min=0` a stage without work has none. More are started
    at once; there are fewer only after fewer have been enough for `down_after` seconds, and never while one of them
    still starts. When a job has waited longer than `max_wait` seconds and all replicas work, one more is started.
    On top of all that there are `spare` replicas, loaded and idle: when one that works is lost, a spare takes over.

    `tokens_per_replica`, for a stage with an engine, is how many tokens of work (prompts, and what is generated) one
    replica is meant to have before it. How many there are is an estimate; it is a reason for more replicas and against
    fewer, never for fewer, and while nothing is known the jobs alone decide. None: tokens are not counted.
    """

    max: int
    min: int = 0
    lag_per_replica: int | None = None
    max_wait: float = 30.0
    down_after: float = 60.0
    spare: int = 0
    tokens_per_replica: int | None = None

    @property
    def mistake(self) -> str | None:
        """What is wrong with it, and how it is put right; None when nothing is."""
        if not (_is_whole(self.max) and self.max >= 1):
            return f"max={self.max!r} must be a whole number, at least 1"
        if not (_is_whole(self.min) and 0 <= self.min <= self.max):
            return f"min={self.min!r} must be a whole number from 0 to max={self.max}"
        if self.lag_per_replica is not None and not (_is_whole(self.lag_per_replica) and self.lag_per_replica >= 1):
            return f"lag_per_replica={self.lag_per_replica!r} must be a whole number of jobs, at least 1"
        tokens = self.tokens_per_replica
        if tokens is not None and not (_is_whole(tokens) and tokens >= 1):
            return f"tokens_per_replica={tokens!r} must be a whole number of tokens, at least 1"
        if not self.max_wait > 0:
            return f"max_wait={self.max_wait!r} must be more than 0 seconds"
        if not self.down_after >= 0:
            return f"down_after={self.down_after!r} must be 0 seconds or more"
        if not (_is_whole(self.spare) and self.spare >= 0):
            return f"spare={self.spare!r} must be a whole number, at least 0"
        return None


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)
