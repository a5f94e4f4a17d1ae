"""Jobs written by hand, and the audit log once it has them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from actors.contracts.events import Completed, Delta, StepStarted
from actors.contracts.messages import Packed
from actors.journal import Journal, Unanswered
from actors.journal.topology import AUDIT
from actors.journal.trail import Entry, Hole, Trail
from tests.scribe import Scribe

BACKSTOP_S = 30.0
POLL_S = 0.01

FACTS = 3
"""How many facts a job of these has: its hand-off, its start, its outcome."""


async def a_started_job(journal: Journal, *, pieces: int = 2) -> Scribe:
    """A job that somebody runs, and that has said something."""
    job = Scribe(journal.appender)
    await job.hand_off("write")
    await job.write(StepStarted, stage="write", attempt=1, claim="c", worker="w", ack="$JS.ACK.x")
    for at in range(pieces):
        await job.write(Delta, stage="write", text="a ", tokens=(7,), from_=at)
    return job


async def complete(job: Scribe) -> None:
    """Its outcome."""
    answer = Packed(type="Answer", body={"text": job.address.job})
    await job.write(Completed, origin=job.origin, text=job.chain.text or None, answer=answer)


async def a_job(journal: Journal, *, pieces: int = 2) -> Scribe:
    """A job that has its answer."""
    job = await a_started_job(journal, pieces=pieces)
    await complete(job)
    return job


async def jobs(journal: Journal, count: int) -> list[Scribe]:
    """Jobs that have their answers, and are in the audit log."""
    made = [await a_job(journal) for _ in range(count)]
    await copied(journal, made[-1].chain.seq)
    return made


async def copied(journal: Journal, seq: int, *, within: float = BACKSTOP_S) -> None:
    """Wait until the audit log has the fact at this sequence of the log of jobs."""

    async def has_it() -> bool:
        [source] = (await journal.signals.api(f"STREAM.INFO.{AUDIT}"))["sources"]
        return source.get("seq", 0) >= seq and not source["lag"]

    await until(has_it, within=within)


async def until(is_so: Callable[[], Awaitable[bool]], *, within: float = BACKSTOP_S) -> None:
    """Wait until it is so; what nobody announces is looked at again and again, also while nobody answers."""
    async with asyncio.timeout(within):
        while True:
            with contextlib.suppress(Unanswered):
                if await is_so():
                    return
            await asyncio.sleep(POLL_S)


async def entries(journal: Journal) -> Sequence[Entry | Hole]:
    """All that is in the audit log."""
    trail = Trail(journal.replays)
    span = await trail.span()
    return [found async for found in trail.read(0, span.last)]
