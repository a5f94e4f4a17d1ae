"""Scaling: how many replicas a stage is to have, decided on what is known of its lag."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict

from actors.contracts.generation import about
from actors.pipeline import Replicas, Stage

KNOWN_FOR_S = 0.5
"""A load seen longer ago decides nothing, in seconds."""

GAP_S = 5.0
"""After so long without a load, what was wanted before says nothing any more, in seconds."""

START_S = 600.0
"""How long a replica may take to start before it may be given up again, in seconds."""

MARGIN = 1.25
"""By how much tokens are counted too high where they are a reason against fewer replicas: an estimate that goes up and
down by a tenth turns nothing round."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """About how many tokens of work wait, and how many of it are still before the jobs that run."""

    waiting: int
    running: int

    def __str__(self) -> str:
        running = f" and {about(self.running)} run" if self.running else ""
        return f"about {about(self.waiting)} tokens wait{running}"


@dataclass(frozen=True, slots=True)
class Load:
    """A stage as it was seen at `at`, on a clock that never goes back.

    `waited` is how many seconds the oldest job that waits has waited. `ready` replicas work, and `failed` ones cannot;
    those that still start are neither. `tokens` is None where nobody can say, or nobody asked.
    """

    at: float
    waiting: int
    running: int
    waited: float = 0.0
    ready: int = 0
    failed: int = 0
    tokens: Tokens | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What a decision has to know of those before.

    `wanted` are the numbers wanted lately, each with when it was last: only those that nothing later exceeds, so the
    first is the most. `grown` is when there was last to be one more, `starting` since when one of them starts.
    """

    at: float
    wanted: tuple[tuple[float, int], ...]
    grown: float
    starting: float | None = None

    @classmethod
    def anew(cls, at: float, replicas: int) -> Memory:
        """As if what there is had been wanted up to now."""
        return cls(at, ((at, replicas),), at)

    def and_wanted(self, at: float, replicas: int, since: float) -> Memory:
        """The same, with what is wanted now and without what was wanted before `since`."""
        kept = ((when, number) for when, number in self.wanted if number > replicas and when >= since)
        return replace(self, at=at, wanted=(*kept, (at, replicas)))

    @property
    def most(self) -> int:
        return self.wanted[0][1]


class Decision(BaseModel):
    """How many replicas a stage is to have, and why; about how many tokens wait, where that is estimated."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    replicas: int
    reason: str
    tokens_waiting: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """How a stage's load decides on its number of replicas; `concurrency` is how many jobs one of them runs.

    There are from `min` to `max` for the load, and on top of those always `spare`. Tokens are a reason for more of them
    and against fewer; where they are not known the jobs alone decide.
    """

    min: int
    max: int
    lag_per_replica: int
    concurrency: int
    max_wait: float
    down_after: float
    spare: int = 0
    tokens_per_replica: int | None = None

    @classmethod
    def of(cls, stage: Stage, replicas: Replicas) -> Rule:
        per_replica = replicas.lag_per_replica or stage.concurrency
        return cls(
            replicas.min,
            replicas.max,
            per_replica,
            stage.concurrency,
            replicas.max_wait,
            replicas.down_after,
            replicas.spare,
            replicas.tokens_per_replica,
        )

    @property
    def least(self) -> int:
        """The fewest replicas there ever are."""
        return self.min + self.spare

    @property
    def most(self) -> int:
        """The most replicas there ever are."""
        return self.max + self.spare

    def decide(
        self, memory: Memory | None, load: Load | None, *, now: float, target: int
    ) -> tuple[Decision, Memory | None]:
        """How many there are to be, when there are to be `target` now.

        More at once. Fewer only when fewer were enough for `down_after` seconds and every replica has started, and
        never fewer than what runs needs. An unknown load holds what there is.
        """
        if load is None or now - load.at > KNOWN_FOR_S:
            return Decision(replicas=target, reason="held: how much waits is not known"), memory
        if memory is None or load.at - memory.at > GAP_S:
            memory = Memory.anew(load.at, target)
        needed, reason = self._needed(load, memory, target)
        memory = memory.and_wanted(load.at, needed, load.at - self.down_after)
        if needed > target:
            return Decision(replicas=needed, reason=reason), replace(memory, grown=load.at, starting=load.at)
        memory = replace(memory, starting=_starting(load, memory, target))
        if memory.most >= target:
            later = f"; fewer once that was so for {self.down_after:.0f} s" if needed < target else ""
            return Decision(replicas=target, reason=reason + later), memory
        if memory.starting is not None and load.at - memory.starting < START_S:
            return Decision(replicas=target, reason=f"{reason}; fewer once all have started"), memory
        return Decision(replicas=memory.most, reason=reason), memory

    def _needed(self, load: Load, memory: Memory, target: int) -> tuple[int, str]:
        """How many the load needs, within the bounds, with those to spare, and why."""
        lag = math.ceil((load.waiting + load.running) / self.lag_per_replica)
        working = max(0, target - self.spare)
        busy = min(math.ceil(load.running / self.concurrency), working)  # never a reason for more, one against fewer
        needed = max(lag, busy)
        reason = f"{load.waiting} wait and {load.running} run, {self.lag_per_replica} for each replica"
        if load.tokens and self.tokens_per_replica and (more := self._for_tokens(load.tokens, working)) > needed:
            needed, reason = more, f"{load.tokens}, {self.tokens_per_replica:,} for each replica"
        if load.waited > self.max_wait and needed <= working:
            needed = working + self._one_more(load, memory, target)
            reason = f"a job has waited for {load.waited:.0f} s"
        if needed > self.max:
            reason += f"; {self.max} is the most"
        if self.spare:
            reason += f"; {self.spare} to spare"
        return max(self.min, min(needed, self.max)) + self.spare, reason

    def _for_tokens(self, tokens: Tokens, working: int) -> int:
        """How many these tokens need; where that is fewer than work, they are counted as a little more."""
        of_one = (tokens.waiting + tokens.running) / (self.tokens_per_replica or math.inf)
        return max(math.ceil(of_one), min(working, math.ceil(MARGIN * of_one)))

    def _one_more(self, load: Load, memory: Memory, target: int) -> bool:
        """Whether another one helps: all that there are work, and the last one has had its time to."""
        return load.ready >= target and load.at - memory.grown >= self.max_wait


def _starting(load: Load, memory: Memory, target: int) -> float | None:
    """Since when a replica starts. One that does not answer may be loading."""
    if load.ready + load.failed >= target:
        return None
    return load.at if memory.starting is None else memory.starting
