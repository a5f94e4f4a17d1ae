"""Following jobs: one live subscription per watched job and process, shared by all its readers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import nats.errors
from nats.aio.msg import Msg

from actors.contracts.events import NotAnEvent, Outcome, Record
from actors.contracts.subjects import LIVE, job_filter
from actors.journal.connection import Link, Unanswered
from actors.journal.mailbox import Item, Mailbox
from actors.journal.read import Reader, record_of

log = logging.getLogger(__name__)

IDLE_CHECK_S = 15.0
"""A reader that has heard nothing for so long looks into the log, so that no silent loss stays unseen."""

REPLAYS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Place:
    """How far a reader has seen: the last event's number, and its sequence if known (0 if not)."""

    n: int = 0
    seq: int = 0


class Follower:
    """Lets many readers follow many jobs, each from any place, each event exactly once and in order.

    What a slow reader holds up is bounded: it gets fewer, larger pieces, and past a limit it reads the log again
    instead. It slows nobody: the log and the other readers do not wait for it.
    """

    def __init__(self, live: Link, reader: Reader) -> None:
        self._live = live
        self._reader = reader
        self._watches: dict[tuple[str, str], _Watch] = {}
        self._replays = asyncio.Semaphore(REPLAYS_AT_ONCE)
        live.reconnected.append(self._on_reconnect)

    @property
    def watched(self) -> int:
        """How many jobs are watched in this process."""
        return len(self._watches)

    @asynccontextmanager
    async def follow(self, tenant: str, job: str, after: Place) -> AsyncIterator[AsyncIterator[Item]]:
        """The events of a job after `after`, as an iterator that ends with the outcome.

        Waits for events of a job that does not exist yet. A number that the log no longer has is covered by an item
        without an event: a gap.
        """
        watch = await self._watch(tenant, job)
        mailbox = Mailbox()
        watch.mailboxes.add(mailbox)
        try:
            yield self._events(tenant, job, after, mailbox)
        finally:
            watch.mailboxes.discard(mailbox)
            if not watch.mailboxes and self._watches.get((tenant, job)) is watch:
                del self._watches[tenant, job]
                await watch.close()

    async def _watch(self, tenant: str, job: str) -> _Watch:
        if (watch := self._watches.get((tenant, job))) is None:
            watch = self._watches[tenant, job] = _Watch()
            watch.opening = asyncio.ensure_future(watch.open(self._live, LIVE + job_filter(tenant, job)))
        try:
            await asyncio.shield(watch.opening)
        except Unanswered:
            self._watches.pop((tenant, job), None)
            raise
        return watch

    async def _events(self, tenant: str, job: str, after: Place, mailbox: Mailbox) -> AsyncIterator[Item]:
        place = after
        replay = True
        while True:
            if replay:
                # The subscription is already open, so nothing can fall between the replay and the first live message.
                async for item in self._replay(tenant, job, place):
                    place = Place(item.n, item.seq)
                    yield item
                    if isinstance(item.event, Outcome):
                        return
                replay = False
            heard = await self._hear(mailbox)
            if heard is None:
                replay = True
            elif heard.first_n == place.n + 1:
                place = Place(heard.n, heard.seq)
                yield heard
                if isinstance(heard.event, Outcome):
                    return
            else:
                replay = heard.n > place.n  # a hole, or a merged piece that the last replay has given in part

    async def _hear(self, mailbox: Mailbox) -> Item | None:
        """What comes next; None when the log should be read instead."""
        try:
            async with asyncio.timeout(IDLE_CHECK_S):
                return await mailbox.get()
        except TimeoutError:
            return None

    async def _replay(self, tenant: str, job: str, place: Place) -> AsyncIterator[Item]:
        expected = place.n + 1
        for record in await self._read(tenant, job, place):
            try:
                event = record.event
            except NotAnEvent as error:
                log.error("passed over bytes that are no event", extra={"action": "not_an_event", "reason": str(error)})
                continue
            if event.n < expected:
                continue
            if event.n > expected:
                yield Item(expected, event.n - 1, record.seq - 1, None)
            expected = event.n + 1
            yield Item(event.n, event.n, record.seq, event)

    async def _read(self, tenant: str, job: str, place: Place) -> list[Record]:
        """The records after `place`; all of them when the log does not have the place any more."""
        while True:
            try:
                async with self._replays:
                    if not place.seq:
                        return await self._reader.job(tenant, job)
                    found = await self._reader.job(tenant, job, after=place.seq - 1)
                    if found and found[0].seq == place.seq and found[0].event.n == place.n:
                        return found[1:]
                    return await self._reader.job(tenant, job)
            except Unanswered as error:
                log.info("cannot replay", extra={"action": "replay_retry", "reason": str(error)})
                await asyncio.sleep(0.1)

    def _on_reconnect(self) -> None:
        for watch in self._watches.values():
            for mailbox in watch.mailboxes:
                mailbox.lost()


class _Watch:
    """One job's live subscription, and the mailboxes that its messages go to."""

    opening: asyncio.Future[None]

    def __init__(self) -> None:
        self.mailboxes: set[Mailbox] = set()

    async def open(self, live: Link, subjects: str) -> None:
        self._subscription = await live.subscribe(subjects, self._on_message)

    async def close(self) -> None:
        with contextlib.suppress(nats.errors.Error):
            await self._subscription.unsubscribe()

    async def _on_message(self, message: Msg) -> None:
        record = record_of(message)
        try:
            item = Item(record.event.n, record.event.n, record.seq, record.event)
        except NotAnEvent:
            return  # the next one is a hole in `n`, and the replay says what it was
        for mailbox in self.mailboxes:
            mailbox.put(item)
