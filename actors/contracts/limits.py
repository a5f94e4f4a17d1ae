"""Limits: what one tenant may have of an installation, and how much it weighs among the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import Field

from actors.contracts.carried import Carried
from actors.contracts.subjects import SHARES

LIMITS = "limits"
"""The shelf that they stand on, by tenant."""

HEAVIEST = 1_000.0

AtLeastOne = Annotated[int, Field(ge=1)]


class Limits(Carried):
    """What a tenant may have; None is no limit. Nobody has to be given any.

    Where jobs of several tenants wait in a lane, they are started in proportion to `weight`. `jobs_per_minute` are
    accepted, `waiting` wait for a stage, `running` have no outcome yet, and what ended in a minute has used
    `tokens_per_minute`. `readers` is how many streams it may have open in one process. `share` is which share of the
    lanes the tenant is in; without one its first job gives it one.
    """

    weight: Annotated[float, Field(gt=0, le=HEAVIEST)] = 1.0
    share: Annotated[int, Field(ge=1, le=SHARES)] | None = None
    jobs_per_minute: AtLeastOne | None = None
    waiting: AtLeastOne | None = None
    running: AtLeastOne | None = None
    tokens_per_minute: AtLeastOne | None = None
    readers: AtLeastOne | None = None

    @property
    def caps(self) -> dict[str, int]:
        """The limits on jobs that there are, by name."""
        named = {
            "jobs": self.jobs_per_minute,
            "waiting": self.waiting,
            "running": self.running,
            "tokens": self.tokens_per_minute,
        }
        return {name: most for name, most in named.items() if most is not None}


def least_taken(limits: Iterable[Limits]) -> int:
    """The share that the fewest tenants are in: one that nobody is in, while there is one."""
    taken = [one.share for one in limits]
    return min(range(1, SHARES + 1), key=lambda share: (taken.count(share), share))


def weights(limits: Iterable[Limits]) -> Mapping[int, float]:
    """How much each share weighs: as much as the heaviest tenant in it."""
    found: dict[int, float] = {}
    for one in limits:
        if one.share:
            found[one.share] = max(one.weight, found.get(one.share, 0.0))
    return found
