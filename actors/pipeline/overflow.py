"""Overflow: CPU replicas beside a stage's GPU replicas, for jobs that have waited too long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Overflow:
    """What takes jobs off a GPU stage that is behind: `stage(gpus=1, overflow=Overflow(after=20))`.

    There are always `replicas` of them, loaded, without a GPU, on `cpus` each; they take jobs, `concurrency` at a time
    each, only while the first that waits has waited for longer than `after` seconds.
    """

    after: float
    replicas: int = 1
    cpus: float = 1.0
    concurrency: int = 4

    @property
    def mistake(self) -> str | None:
        """What is wrong with it, and how it is put right; None when nothing is."""
        if not self.after > 0:
            return f"after={self.after!r} must be more than 0 seconds"
        for name, number in (("replicas", self.replicas), ("concurrency", self.concurrency)):
            if not (isinstance(number, int) and not isinstance(number, bool) and number >= 1):
                return f"{name}={number!r} must be a whole number, at least 1"
        if not self.cpus >= 0:
            return f"cpus={self.cpus!r} must be 0 or more"
        return None
