"""A ledger: what one tenant has had of an installation lately, and what it has of it now."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass

WINDOW_S = 60.0
"""What is limited by the minute is limited in any 60 seconds."""


@dataclass(frozen=True, slots=True)
class Account:
    """How much of a limit is left, and in how many seconds there is more; None where nobody can know."""

    name: str
    most: int
    left: int
    more_in: float | None = None


class Ledger:
    """Counts a tenant's jobs and tokens, as the log tells of them; a job that is told of twice counts once.

    `waiting` is how many were seen to wait, and how many were let in since.
    """

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.waiting = 0
        self.ended = 0
        self._begun: dict[str, float] = {}
        self._used: deque[tuple[float, int]] = deque()
        self._ended_since: set[str] | None = None

    def knows(self, job: str) -> bool:
        """Whether a job was counted already."""
        return job in self.open or job in self._begun

    def begin(self, job: str, at: float) -> None:
        """A job was let in, here or elsewhere."""
        self._begun[job] = at
        self.open.add(job)
        self.waiting += 1

    def note(self, job: str, at: float) -> None:
        """A job goes on; one that was let in elsewhere begins with that."""
        if not self.knows(job):
            self.begin(job, at)
        self.open.add(job)

    def withdraw(self, job: str) -> None:
        """A job that was let in was not stored."""
        self.open.discard(job)
        self.waiting -= self._begun.pop(job, None) is not None

    def end(self, job: str, tokens: int, at: float) -> None:
        """A job has its outcome, and has used so many tokens."""
        self.open.discard(job)
        self.ended += 1
        if self._ended_since is not None:
            self._ended_since.add(job)
        if tokens:
            self._used.append((at, tokens))

    def expect_list(self) -> None:
        """What is told from here on is newer than the list that `correct` will be given."""
        self._ended_since = set()

    def correct(self, listed: Collection[str], since: float) -> None:
        """Take what the log has of jobs without an outcome, asked for since `since`."""
        newer = {job for job in self.open if self._begun.get(job, -1.0) >= since}
        self.open = ({*listed} | newer) - (self._ended_since or set())
        self._ended_since = None

    def accounts(self, caps: Mapping[str, int], at: float) -> list[Account]:
        """How it stands with each of these limits."""
        self._begun = {job: when for job, when in self._begun.items() if when > at - WINDOW_S}
        while self._used and self._used[0][0] <= at - WINDOW_S:
            self._used.popleft()
        return [self._account(name, most, at) for name, most in caps.items()]

    def _account(self, name: str, most: int, at: float) -> Account:
        match name:
            case "jobs":
                return _by_the_minute(name, most, [(when, 1) for when in self._begun.values()], at)
            case "tokens":
                return _by_the_minute(name, most, list(self._used), at)
            case "running":
                return Account(name, most, max(0, most - len(self.open)))
        return Account(name, most, max(0, most - self.waiting))


def _by_the_minute(name: str, most: int, had: list[tuple[float, int]], at: float) -> Account:
    over = sum(amount for _, amount in had) - most
    left = max(0, -over)
    for when, amount in had:
        over -= amount
        if over < 0:
            return Account(name, most, left, when + WINDOW_S - at)
    return Account(name, most, left, 0.0)
