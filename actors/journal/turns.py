"""Turns: which of a lane's shares goes next, so that each has as much of it as its weight says."""

from __future__ import annotations

from collections.abc import Callable, Collection


class Turns:
    """Start-time fair queueing over the shares of one lane; what is shared are starts of jobs.

    A share that had nothing waiting is owed nothing for that time: when something comes, it goes next, and from then on
    in turn. Source: Goyal, Vin and Cheng, "Start-time Fair Queueing", 1996.
    """

    def __init__(self, weight: Callable[[int], float]) -> None:
        self._weight = weight
        self._now = 0.0
        self._free_at: dict[int, float] = {}

    def next(self, shares: Collection[int], places: int) -> tuple[int, int]:
        """Whose turn it is among these, and how many of so many places go to it while all of them have enough."""
        if len(shares) == 1:
            return next(iter(shares)), places
        starts = {share: self._start(share) for share in shares}
        first, given = self._earliest(starts), 0
        for _ in range(places):
            share = self._earliest(starts)
            given += share == first
            starts[share] += 1 / self._weight(share)
        return first, given

    def took(self, share: int, jobs: int) -> None:
        """So many jobs of a share have been started."""
        if jobs:
            start = self._start(share)
            self._free_at[share] = start + jobs / self._weight(share)
            self._now = max(self._now, start)

    def _start(self, share: int) -> float:
        return max(self._now, self._free_at.get(share, 0.0))

    @staticmethod
    def _earliest(starts: dict[int, float]) -> int:
        return min(starts, key=lambda share: (starts[share], share))
