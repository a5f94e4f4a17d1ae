"""Durations in pairs: ours and the bare thing's, taken one right after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from benchmarks.estimate import Estimate, estimate, percentile


class Pair(Protocol):
    """One pair, in seconds."""

    @property
    def ours(self) -> float: ...

    @property
    def bare(self) -> float: ...


P = TypeVar("P", bound=Pair)


def over_bare(taken: Sequence[P], q: float) -> Estimate:
    """The `q`-th percentile of ours over that of the bare thing's."""
    return estimate(taken, _ratio(q))


def in_words(taken: Sequence[Pair], q: float) -> str:
    """The same percentiles, in milliseconds."""
    ours, bare = (percentile(side, q) for side in ([one.ours for one in taken], [one.bare for one in taken]))
    return f"{1000 * ours:.0f} ms, bare {1000 * bare:.0f} ms"


def _ratio(q: float) -> Callable[[Sequence[Pair]], float]:
    return lambda drawn: percentile([one.ours for one in drawn], q) / percentile([one.bare for one in drawn], q)
