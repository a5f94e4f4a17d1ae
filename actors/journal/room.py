"""Room: how full the log is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from actors.contracts.subjects import DEAD, DONE, facts
from actors.journal.connection import ApiError, Unanswered
from actors.journal.journal import Journal
from actors.journal.lag import Flow, Lag
from actors.journal.topology import JOBS, LATER, NO_STREAM

DEAD_SHARE = 0.1
"""The part of all jobs that dead letters may be."""

NOBODYS = "job.none.none.none.none"
"""A subject on which nothing is ever said."""


class NotStoring(Unanswered):
    """The server is there and stores nothing, most often because its disk is full: it waits for a person."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the log holds, and what it may hold. `dead_letters` are among the `jobs`."""

    bytes: int
    max_bytes: int
    jobs: int
    max_jobs: int
    dead_letters: int

    @property
    def bytes_taken(self) -> float:
        """The part of its bytes that is taken; 0 where the server sets no limit."""
        return self.bytes / self.max_bytes if self.max_bytes > 0 else 0.0

    @property
    def jobs_taken(self) -> float:
        """The part of its jobs that is taken."""
        return self.jobs / self.max_jobs

    @property
    def max_dead_letters(self) -> int:
        """How many dead letters there may be before somebody has to look: nothing but a discard lets them go."""
        return max(1, int(self.max_jobs * DEAD_SHARE))

    @property
    def taken(self) -> float:
        """The part that is taken, of whatever is scarcer."""
        return max(self.bytes_taken, self.jobs_taken)


async def measure(journal: Journal, flows: Iterable[Iterable[Flow | Lag]], *, max_jobs: int) -> Room:
    """How full the log is now; `flows` are those of every stage, or its lags. Raises Unanswered.

    A job that has ended has one outcome, and one that has not has one hand-off that nobody acknowledged, or a time that
    is noted: so all of them are counted without looking at any. What has just happened may be counted twice, or not at
    all.
    """
    running = sum(flow.waiting + flow.running for stage in flows for flow in stage)
    (taken, most), done, dead, later = await asyncio.gather(
        size(journal), journal.reader.count(facts(DONE)), journal.reader.count(facts(DEAD)), _put_off(journal)
    )
    return Room(taken, most, running + later + done + dead, max_jobs, dead)


async def check_storing(journal: Journal, *, timeout: float) -> None:
    """Raises NotStoring when the server says that it stores nothing, Unanswered when it says nothing.

    It asks for a purge of what nobody has: that changes nothing, and is refused (10051) as any write is.
    """
    try:
        await journal.signals.api(f"STREAM.PURGE.{JOBS}", {"filter": NOBODYS}, timeout=timeout)
    except ApiError as error:
        raise NotStoring(f"nats-server stores nothing: {error}") from error


async def _put_off(journal: Journal) -> int:
    """How many jobs wait for a time or for a person. Raises Unanswered."""
    try:
        info = await journal.signals.api(f"STREAM.INFO.{LATER}")
    except ApiError as error:
        if error.code == NO_STREAM:
            return 0
        raise Unanswered(f"it is not known how many jobs are put off: {error}") from error
    return int(info["state"]["messages"])


async def size(journal: Journal) -> tuple[int, int]:
    """How many bytes the log has, and how many it may have (-1: no limit). Raises Unanswered."""
    try:
        info = await journal.signals.api(f"STREAM.INFO.{JOBS}")
    except ApiError as error:
        raise Unanswered(f"the log cannot be measured: {error}") from error
    return int(info["state"]["bytes"]), int(info["config"]["max_bytes"])
