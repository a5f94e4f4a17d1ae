"""The herald: it finds out who is to be told of what happened to a job, and keeps a delivery for each of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from actors.contracts.chain import digest
from actors.contracts.delivery import Delivery
from actors.contracts.envelope import Fact
from actors.contracts.events import HandOff, InputRequired, NotAnEvent, Origin, Outcome, Record
from actors.contracts.notice import delivery_id, notice
from actors.contracts.subjects import ASK, Subject
from actors.contracts.webhook import Endpoint
from actors.journal.connection import ApiError, Unanswered
from actors.journal.endpoints import OF_JOBS, Directory
from actors.journal.hooks import Hooks, Kept
from actors.journal.journal import Journal
from actors.journal.outcomes import Outcomes
from actors.journal.topology import ensure_hooks
from actors.runtime.writer import Clock

log = logging.getLogger(__name__)

CLOCKS_DIFFER = timedelta(seconds=10)
"""An endpoint is told of what happened since it was made; by clocks that may differ by so much."""

CROWDED_S = 60.0
"""How long an outcome waits whose tenant has no room for more deliveries, before it is looked at again, in seconds."""

ASIDE_S = 300.0
"""How long an outcome is left that could not even be told, in seconds."""

AT_ONCE = 32
"""How many deliveries are being stored at a time."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0

HOOK = b'"webhook":'
"""How a fact's bytes begin to tell of a job's own webhook."""


class Herald:
    """Keeps a delivery for each endpoint that an outcome, or a question, is of interest to.

    What it was given is acknowledged when the deliveries are on disk; until then it waits, however long the server or
    its room takes. Given twice, it makes them once. What a tenant has no room for waits in the log, and holds up nobody
    else's.
    """

    def __init__(
        self,
        directory: Directory,
        hooks: Hooks,
        made: Callable[[Kept], None],
        has_room: Callable[[str], bool],
        *,
        now: Clock,
    ) -> None:
        self._directory = directory
        self._hooks = hooks
        self._made = made
        self._has_room = has_room
        self._now = now

    async def run(self, journal: Journal, *, replicas: int) -> None:
        """Work until cancelled."""
        outcomes, batch = Outcomes(journal.pulls), list[tuple[Record | None, str]]()
        await outcomes.open()
        try:
            while True:
                try:
                    batch = await self._fitting(outcomes, await outcomes.next())
                except Unanswered as error:
                    log.info("outcomes cannot be had", extra={"action": "outcomes_retry", "reason": str(error)})
                    await journal.wait_until_up()
                    await until_there(journal, replicas)
                    continue
                left = await self._tell_all(journal, replicas, [record for record, _ in batch if record])
                while batch:
                    record, ack = batch.pop()
                    await (outcomes.again(ack, ASIDE_S) if record in left else outcomes.done(ack))
        finally:
            # Whoever is next does not have to wait for what is let go of here.
            await outcomes.close()
            for _, ack in batch:
                await outcomes.again(ack)

    async def _fitting(
        self, outcomes: Outcomes, given: Sequence[tuple[Record | None, str]]
    ) -> list[tuple[Record | None, str]]:
        """What is left of a batch when all that there is no room for just now is put off."""
        fitting = []
        for record, ack in given:
            if record is None or self._has_room(Subject.parse(record.subject).tenant):
                fitting.append((record, ack))
            else:
                await outcomes.again(ack, CROWDED_S)
        return fitting

    async def _tell_all(self, journal: Journal, replicas: int, records: Sequence[Record]) -> list[Record]:
        """Tell them, however long that takes; those that could not even be told, through a bug of ours."""
        pause, left = FIRST_PAUSE_S, list(records)
        while True:
            try:
                # Whoever has had an endpoint since before these happened is to be told: so it is looked for after them.
                await self._directory.look(oldest=0.0)
                await self._tell_each(journal, left)
                return left
            except Unanswered as error:
                log.warning("deliveries wait", extra={"action": "deliveries_wait", "reason": str(error)})
            await until_there(journal, replicas)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _tell_each(self, journal: Journal, left: list[Record]) -> None:
        """Tell what is `left`, of which then only that is left which could not be told. Raises Unanswered."""
        endpoints, turns = self._directory.by_tenant(), asyncio.Semaphore(AT_ONCE)

        async def tell(record: Record) -> None:
            async with turns:
                for tenant, endpoint, delivery in await self._deliveries(journal, record, endpoints):
                    if kept := await self._hooks.make(tenant, endpoint, delivery):
                        self._made(kept)
            left.remove(record)

        # All of them are heard out, so that none stores something behind the back of the next round.
        asked = tuple(left)
        ends = await asyncio.gather(*map(tell, asked), return_exceptions=True)
        for end in ends:
            if isinstance(end, Unanswered):
                raise end
        for record, error in zip(asked, ends, strict=True):
            if error:  # a bug that one of them finds is not to keep the others from being told
                said = {"job": Subject.parse(record.subject).job, "error": f"{type(error).__name__}: {error}"}
                log.error("an outcome cannot be told", extra={"action": "outcome_broken", **said}, exc_info=error)

    async def _deliveries(
        self, journal: Journal, record: Record, endpoints: Mapping[str, Mapping[str, Endpoint]]
    ) -> list[tuple[str, str, Delivery]]:
        """Whom a fact is to be told to, and how; mostly nobody, which is found out without reading it."""
        of = Subject.parse(record.subject)
        mine = endpoints.get(of.tenant, {})
        asks = of.topic == ASK
        if not (mine or asks or HOOK in record.data):
            return []
        event = _event(record)
        origin = await _origin(journal, record, event)
        said = notice(event, origin, of.job, digest(record.data)) if event and origin else None
        if event is None or origin is None or said is None:
            return []
        found = [
            (id, None)
            for id, endpoint in mine.items()
            if endpoint.wants(said.event) and event.at >= endpoint.created - CLOCKS_DIFFER
        ]
        own = [(OF_JOBS, origin.webhook.url)] if origin.webhook and origin.webhook.wants(said.event) else []
        return [
            (
                of.tenant,
                endpoint,
                Delivery(
                    id=delivery_id(digest(record.data), endpoint),
                    event=said.event,
                    job=of.job,
                    url=url,
                    body=said.body,
                    created=(now := self._now()),
                    due=now,
                ),
            )
            for endpoint, url in (*found, *own)
        ]


def _event(record: Record) -> Fact | None:
    try:
        return record.event if isinstance(record.event, Fact) else None
    except NotAnEvent:
        return None


async def _origin(journal: Journal, record: Record, event: Fact | None) -> Origin | None:
    """What was asked for. An outcome repeats it; for a question the job's log is read, which is there until it ends."""
    if isinstance(event, Outcome):
        return event.origin
    if not isinstance(event, InputRequired):
        return None
    of = Subject.parse(record.subject)
    records = await journal.reader.job(of.tenant, of.job, at_least=record.seq)
    return next((found.origin for one in records if isinstance(found := _event(one), HandOff)), None)


async def until_there(journal: Journal, replicas: int) -> None:
    """Make what is missing, however long that takes."""
    pause = FIRST_PAUSE_S
    while True:
        try:
            await ensure_hooks(journal.signals, replicas=replicas)
            return
        except ApiError as error:
            log.warning("what webhooks need is missing", extra={"action": "hooks_not_made", "reason": str(error)})
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_S)
