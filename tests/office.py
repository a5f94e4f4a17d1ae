"""What a test has beside the workers: the log, jobs to post, and an ear on what is said about deliveries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.msg import Msg

from actors.contracts.envelope import Envelope
from actors.contracts.events import Outcome, Record, StepStarted
from actors.contracts.messages import Message
from actors.contracts.subjects import Lane
from actors.journal import Journal, Refused, Unanswered
from actors.journal.follow import Follower, Place
from actors.journal.topology import JOBS
from actors.pipeline import Pipeline
from tests.scribe import Scribe, an_origin, new_address
from tests.verify import verify

BACKSTOP_S = 30.0


class Ear:
    """Hears every ack, nak and sign of work that anybody sends about a delivery."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._news = asyncio.Event()

    async def take(self, message: Msg) -> None:
        self.heard.append((message.subject, message.data))
        self._news.set()

    def count(self, what: bytes, ack: str = "") -> int:
        """How often this was said, about one delivery or about any."""
        return sum(data.startswith(what) and ack in ("", subject) for subject, data in self.heard)

    async def until(self, what: bytes, *, times: int = 1, ack: str = "") -> None:
        """Wait until this was said so often."""
        async with asyncio.timeout(BACKSTOP_S):
            while self.count(what, ack) < times:
                self._news.clear()
                await self._news.wait()


class Office:
    """Posts jobs, reads along, and looks into the log."""

    def __init__(self, journal: Journal, ear: Ear) -> None:
        self.journal = journal
        self.follower = Follower(journal.live, journal.reader)
        self.ear = ear

    async def post(
        self,
        of: Pipeline,
        message: Message,
        /,
        *,
        to: str = "",
        seconds: float = 3_600.0,
        lane: Lane = "standard",
        **origin: Any,
    ) -> Scribe:
        """A new job, as the ingress would make it; its first hand-off may be to any stage."""
        known = {"pipeline": of.name, "version": of.version, "seconds": seconds}
        made_of = an_origin(**{**known, **origin})
        scribe = Scribe(self.journal.appender, new_address(lane), origin=made_of)
        await scribe.hand_off(to or of.entry.name, message)
        return scribe

    async def until(self, job: Scribe, wanted: Callable[[Envelope], bool]) -> list[Envelope]:
        """What a reader of the job sees, up to the first event that is wanted."""
        async with asyncio.timeout(BACKSTOP_S):
            while True:
                try:
                    return await self._until(job, wanted)
                except Unanswered:
                    await self.journal.wait_until_up()

    async def _until(self, job: Scribe, wanted: Callable[[Envelope], bool]) -> list[Envelope]:
        seen: list[Envelope] = []
        async with self.follower.follow(job.address.tenant, job.address.job, Place()) as items:
            async for item in items:
                assert item.event is not None, f"a gap from {item.first_n} to {item.n}"
                seen.append(item.event)
                if wanted(item.event):
                    return seen
        raise AssertionError(f"the stream ended with {seen[-1].kind}")

    async def until_kind(self, job: Scribe, kind: str, times: int = 1) -> list[Envelope]:
        """What a reader sees up to the first event of a kind, or a later one."""
        left = times

        def is_it(event: Envelope) -> bool:
            nonlocal left
            left -= event.kind == kind
            return left == 0

        return await self.until(job, is_it)

    async def outcome(self, job: Scribe) -> list[Record]:
        """The whole log of the job once it has its outcome; a log that is not whole fails the test."""
        seen = await self.until(job, lambda event: isinstance(event, Outcome))
        records = await self.log(job)
        verify(records)
        assert seen[-1] == records[-1].event
        return records

    async def log(self, job: Scribe) -> list[Record]:
        """The job's messages so far, however long it takes to read them."""
        tenant, name = job.address.tenant, job.address.job
        async with asyncio.timeout(BACKSTOP_S):
            while True:
                try:
                    last = await self.journal.reader.last(tenant, name)
                    assert last is not None
                    return await self.journal.reader.job(tenant, name, at_least=last.seq)
                except Unanswered:
                    await self.journal.wait_until_up()

    async def insist(self, job: Scribe, kind: type[Envelope], **fields: Any) -> None:
        """Store an event between whatever a running worker appends."""
        async with asyncio.timeout(BACKSTOP_S):
            while True:
                await job.catch_up(self.journal.reader)
                try:
                    await job.write(kind, **fields)
                except Refused:
                    await asyncio.sleep(0)
                else:
                    return

    async def waiting(self, stage: str, lane: Lane = "standard") -> tuple[int, int]:
        """How many hand-offs of a stage wait, and how many are delivered and not acknowledged."""
        info = await self.journal.signals.api(f"CONSUMER.INFO.{JOBS}.{stage}-{lane}")
        return info["num_pending"], info["num_ack_pending"]


@asynccontextmanager
async def office_on(journal: Journal) -> AsyncIterator[Office]:
    ear = Ear()
    await journal.signals.subscribe(f"$JS.ACK.{JOBS}.>", ear.take)
    yield Office(journal, ear)


def starts(records: list[Record]) -> list[StepStarted]:
    """Every claim of a job's steps."""
    return [r.event for r in records if isinstance(r.event, StepStarted)]
