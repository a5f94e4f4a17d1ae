"""Following jobs: one live subscription per watched job and process, shared by all its readers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import nats.errors
from nats.aio.msg import Msg

from actors.contracts.events import NotAnEvent, Outcome, Record
from actors.contracts.subjects import LIVE, job_filter
from actors.journal.connection import Link, Unanswered
from actors.journal.mailbox import MOST_HELD, Item, Mailbox
from actors.journal.read import Reader, record_of

log = logging.getLogger(__name__)

IDLE_CHECK_S = 15.0
"""A reader that has heard nothing for so long looks into the log, so that no silent loss stays unseen."""

REPLAYS_AT_ONCE = 8
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0


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

    @property
    def mailboxes(self) -> list[Mailbox]:
        """What waits for each reader, reader by reader."""
        return [mailbox for watch in self._watches.values() for mailbox in watch.mailboxes]

    @asynccontextmanager
    async def follow(
        self, tenant: str, job: str, after: Place, *, held: int = MOST_HELD
    ) -> AsyncIterator[AsyncIterator[Item]]:
        """The events of a job after `after`, as an iterator that ends with the outcome.

        At most `held` characters of text wait for the reader.

        Waits for events of a job that does not exist yet. A number that the log no longer has is covered by an item
        without an event: a gap. Raises Unanswered on entry when there is no connection; one that drops later is waited
        for.
        """
        key, mailbox = (tenant, job), Mailbox(held)
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = _Watch(self._live, LIVE + job_filter(tenant, job))
        watch.mailboxes.add(mailbox)
        try:
            await watch.opened()
            async with aclosing(self._events(tenant, job, after, mailbox)) as events:
                yield events
        finally:
            watch.mailboxes.discard(mailbox)
            if not watch.mailboxes and self._watches.get(key) is watch:
                del self._watches[key]
                await watch.close()

    async def _events(self, tenant: str, job: str, after: Place, mailbox: Mailbox) -> AsyncGenerator[Item, None]:
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
        async for record in self._records(tenant, job, place):
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

    async def _records(self, tenant: str, job: str, place: Place) -> AsyncIterator[Record]:
        """The records from `place` on; all of them when the log does not have the place any more.

        A page at a time, so that a slow reader never holds more.
        """
        position, sure, more = max(place.seq - 1, 0), not place.seq, True
        while more:
            page, more = await self._page(tenant, job, position)
            if not sure:
                sure = True
                if not (page and _is_at(page[0], place)):
                    position, more = 0, True
                    continue
            for record in page:
                yield record
            position = page[-1].seq if page else position
        for record in await self._rest(tenant, job, position):
            yield record

    async def _page(self, tenant: str, job: str, after: int) -> tuple[list[Record], bool]:
        """A page of the log, however long it takes to be answered."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                async with self._replays:
                    return await self._reader.page(tenant, job, after=after)
            except Unanswered as error:
                if pause == FIRST_PAUSE_S:
                    log.info("cannot replay yet", extra={"action": "replay_retry", "job": job, "reason": str(error)})
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _rest(self, tenant: str, job: str, after: int) -> list[Record]:
        """What only the leader has yet: what a replica does not show now, nobody may say again for a long time."""
        try:
            last = await self._reader.last(tenant, job)
            return await self._reader.rest(tenant, job, after=after, at_least=last.seq if last else 0)
        except Unanswered as error:
            log.info("nobody leads the log now", extra={"action": "replay_unsure", "job": job, "reason": str(error)})
            return []

    def _on_reconnect(self) -> None:
        for watch in self._watches.values():
            for mailbox in watch.mailboxes:
                mailbox.lost()


def _is_at(record: Record, place: Place) -> bool:
    try:
        return record.seq == place.seq and record.event.n == place.n
    except NotAnEvent:
        return False


class _Watch:
    """One job's live subscription, and the mailboxes that its messages go to."""

    def __init__(self, live: Link, subjects: str) -> None:
        self.mailboxes: set[Mailbox] = set()
        self._opening = asyncio.ensure_future(live.subscribe(subjects, self._on_message))

    async def opened(self) -> None:
        """Once the server has confirmed the subscription, which all readers share. Raises Unanswered."""
        await asyncio.shield(self._opening)

    async def close(self) -> None:
        if not self._opening.done():
            self._opening.cancel()
        elif not self._opening.cancelled() and not self._opening.exception():
            with contextlib.suppress(nats.errors.Error):
                await self._opening.result().unsubscribe()

    async def _on_message(self, message: Msg) -> None:
        record = record_of(message)
        try:
            item = Item(record.event.n, record.event.n, record.seq, record.event)
        except NotAnEvent:
            return  # the next one is a hole in `n`, and the replay says what it was
        for mailbox in self.mailboxes:
            mailbox.put(item)
