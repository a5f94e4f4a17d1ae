"""Quotas: a tenant that has what its limits allow is asked to come back, and everybody limited is told what is left."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial

from actors.contracts.events import NotAnEvent, Outcome, parse
from actors.contracts.limits import Limits
from actors.contracts.subjects import DEAD, DONE, LANES, Queue, Subject, facts_of, is_topic
from actors.http.drain import Drain
from actors.http.ledger import WINDOW_S, Account, Ledger
from actors.http.problem import QUOTA, Refusal
from actors.journal import Journal, Unanswered, Undecided
from actors.journal.hearing import Hearing
from actors.journal.journal import PatientJournal
from actors.journal.lag import flow_of
from actors.journal.mirror import Mirror

log = logging.getLogger(__name__)

AGAIN_S = 1.0

RECOUNT_S = 60.0
"""How often what a tenant has open is counted in the log again, should a fact not have been heard."""

ALLOWED = {
    "jobs": "may submit {most:,} jobs in a minute",
    "tokens": "may use {most:,} tokens in a minute",
    "waiting": "may have {most:,} jobs wait",
    "running": "may have {most:,} jobs without an outcome",
}


class Quotas:
    """Knows what every limited tenant has had, because it hears what the log stores; a request only compares.

    Every replica of the ingress hears the same, so together they pass a limit only by what they let in within the same
    few milliseconds. What is limited by the minute begins anew with a replica; what is open and waits is in the log.
    Each comes within a second of what was set.
    """

    def __init__(
        self, limits: Mirror[Limits], stages: Sequence[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._stages = tuple(stages)
        self._clock = clock
        self._ledgers: dict[str, Ledger] = {}
        self._ears: dict[str, Hearing] = {}
        self._drains: dict[str, Drain] = {}
        self._stale: set[str] = set()
        self._counted_at: dict[str, float] = {}
        self._news = asyncio.Event()

    @asynccontextmanager
    async def hearing(self, journals: PatientJournal) -> AsyncIterator[None]:
        """While this is entered, it hears what is stored of the jobs of whoever is limited."""
        self._limits.looked.append(self._news.set)
        hearing = asyncio.create_task(self._keep_hearing(journals))
        try:
            async with self._limits.following(journals):
                yield
        finally:
            hearing.cancel()
            await asyncio.wait({hearing})

    @contextmanager
    def letting_in(self, tenant: str, job: str) -> Iterator[dict[str, str]]:
        """While a tenant's job is stored; its value is the headers that say what is left. Raises Refusal: 429.

        What could not be stored does not count; what nobody knows to be stored does.
        """
        limits = self._limits.values.get(tenant)
        if limits is None or not (caps := limits.caps):
            yield {}
            return
        ledger, now = self._ledgers.setdefault(tenant, Ledger()), self._clock()
        accounts = ledger.accounts(caps, now)
        if ledger.knows(job):  # it is sent again
            yield said(accounts)
            return
        if spent := [account for account in accounts if not account.left]:
            raise self._refusal(tenant, spent, accounts)
        ledger.begin(job, now)
        try:
            yield said(ledger.accounts(caps, now))
        except Undecided:
            raise
        except Exception:
            ledger.withdraw(job)
            raise

    async def _keep_hearing(self, journals: PatientJournal) -> None:
        journal: Journal | None = None
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                if journal is None:
                    journal = await journals.connected(AGAIN_S)
                    journal.live.reconnected.append(self._on_reconnect)
                await self._follow(journal)
                await self._count_waiting(journal)
            except Unanswered as error:
                log.info("cannot hear what is stored", extra={"action": "quotas_deaf", "reason": str(error)})

    async def _follow(self, journal: Journal) -> None:
        """Listen for whoever is limited now, and find what they have open."""
        limited = {tenant for tenant, limits in self._limits.values.items() if limits.caps}
        for tenant in set(self._ears) - limited:
            await self._ears.pop(tenant).close()
            self._ledgers.pop(tenant, None)
        for tenant in limited - set(self._ears):
            ledger = self._ledgers.setdefault(tenant, Ledger())
            self._ears[tenant] = await Hearing.open(journal.live, tenant, partial(self._on_fact, ledger))
            self._stale.add(tenant)
        now = self._clock()
        self._stale |= {tenant for tenant in limited if now - self._counted_at.get(tenant, now) >= RECOUNT_S}
        for tenant in sorted(self._stale & limited):
            await self._correct(journal, tenant, self._ledgers[tenant])
            self._counted_at[tenant] = now
            self._stale.discard(tenant)

    async def _correct(self, journal: Journal, tenant: str, ledger: Ledger) -> None:
        ledger.expect_list()
        since = self._clock()
        subjects = [Subject.parse(subject) for subject in await journal.reader.subjects(facts_of(tenant))]
        ended = {subject.job for subject in subjects if subject.topic in (DONE, DEAD)}
        ledger.correct({subject.job for subject in subjects} - ended, since)

    async def _count_waiting(self, journal: Journal) -> None:
        for tenant, limits in list(self._limits.values.items()):
            if limits.waiting is not None and (ledger := self._ledgers.get(tenant)):
                shares = {0, limits.share or 0}  # where there was no room for its queues, its jobs are in the first
                queues = [Queue(stage, lane, share) for stage in self._stages for lane in LANES for share in shares]
                counts = await asyncio.gather(*(_waiting(journal, queue, tenant) for queue in queues))
                ledger.waiting = sum(counts)

    def _on_fact(self, ledger: Ledger, subject: Subject, data: bytes) -> None:
        if subject.topic in (DONE, DEAD):
            ledger.end(subject.job, _tokens(data), self._clock())
        elif is_topic(subject.topic):
            ledger.note(subject.job, self._clock())

    def _on_reconnect(self) -> None:
        self._stale |= set(self._ears)
        self._news.set()

    def _refusal(self, tenant: str, spent: list[Account], accounts: list[Account]) -> Refusal:
        drain = self._drains.setdefault(tenant, Drain())
        drain.note(self._clock(), self._ledgers[tenant].ended)
        waits = {one: drain.retry_after(1) if one.more_in is None else math.ceil(one.more_in) for one in spent}
        last = max(waits, key=lambda one: waits[one])
        wait, allowed = max(1, waits[last]), ALLOWED[last.name].format(most=last.most)
        return Refusal(
            QUOTA,
            f"This tenant {allowed}, and has. Send the same request again in {wait} s.",
            headers={"Retry-After": str(wait), **said(accounts)},
            limit=last.name,
            most=last.most,
        )


async def _waiting(journal: Journal, queue: Queue, tenant: str) -> int:
    flow = await flow_of(journal.signals, queue)
    return await journal.reader.count(queue.of(tenant), after=flow.upto) if flow.waiting else 0


def said(accounts: Iterable[Account]) -> dict[str, str]:
    """How it stands, in the headers of draft-ietf-httpapi-ratelimit-headers-10."""
    policies, left = [], []
    for one in accounts:
        by_the_minute = one.more_in is not None
        policies.append(f'"{one.name}";q={one.most}' + (f";w={WINDOW_S:.0f}" if by_the_minute else ""))
        left.append(f'"{one.name}";r={one.left}' + (f";t={math.ceil(one.more_in or 0)}" if by_the_minute else ""))
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)}


def _tokens(outcome: bytes) -> int:
    """What a job has used, and what it wasted."""
    with contextlib.suppress(NotAnEvent):
        event = parse(outcome)
        if isinstance(event, Outcome):
            return event.usage.prompt_tokens + event.usage.output_tokens + event.usage.wasted_tokens
    return 0
