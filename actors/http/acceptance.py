"""Acceptance: a job's first message is stored, unless there is such a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from pydantic_core import from_json

from actors.contracts.events import HandOff, Origin, Record, place
from actors.contracts.fold import fold_job
from actors.contracts.messages import Packed
from actors.contracts.subjects import Address, Lane, job_id
from actors.http.admission import Admission
from actors.http.body import too_deep, too_large
from actors.http.problem import KEY_REUSED, Refusal, unavailable
from actors.http.quotas import Quotas
from actors.http.submission import Asked
from actors.journal import Journal, Refused, TooLarge, Unanswered, Undecided
from actors.journal.journal import PatientJournal
from actors.journal.later import Later
from actors.journal.shares import Shares
from actors.pipeline import Pipeline
from actors.runtime.writer import Clock


@dataclass(frozen=True, slots=True)
class Received:
    """A job that is on disk. `known` is its log if it was there before, under the same key and with the same words.

    `headers` say what is left of its tenant's limits.
    """

    job: str
    lane: Lane
    origin: Origin
    start_at: datetime | None = None
    known: list[Record] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)


class Reception:
    """Takes jobs in. It waits `patience` seconds for a log that does not answer."""

    def __init__(
        self,
        log: PatientJournal,
        admission: Admission,
        quotas: Quotas,
        shares: Shares,
        *,
        deadline: int,
        max_deadline: int,
        patience: float,
        now: Clock,
    ) -> None:
        self._log = log
        self._admission = admission
        self._quotas = quotas
        self._shares = shares
        self._deadline = deadline
        self._max_deadline = max_deadline
        self._patience = patience
        self._now = now

    @asynccontextmanager
    async def hearing(self) -> AsyncIterator[None]:
        """While this is entered, it knows what every tenant may have."""
        async with self._quotas.hearing(self._log):
            yield

    async def receive(self, tenant: str, pipeline: Pipeline, asked: Asked, key: str, by: str) -> Received:
        """Store what was asked for, or find what was stored under this tenant's key. Raises Refusal."""
        submission, job, created = asked.submission, job_id(tenant, key), self._now()
        times = submission.times(created, deadline=self._deadline, longest=self._max_deadline)
        origin = Origin(
            pipeline=pipeline.name,
            version=pipeline.version,
            fingerprint=asked.fingerprint,
            created=created,
            deadline=times.deadline,
            metadata=submission.metadata,
            door=asked.door,
            webhook=submission.webhook.hook if submission.webhook else None,
        )
        handoff = HandOff(
            n=1,
            by=by,
            at=created,
            stage=pipeline.entry.name,
            origin=origin,
            message=Packed.of(submission.input),
            start_at=times.start_at,
        )
        try:
            journal = await self._log.opened(self._patience)
            try:
                with self._admitted(pipeline, asked, tenant, job) as headers:
                    stages = [stage.name for stage in pipeline.stages]
                    share = await self._share(journal, tenant, submission.lane, stages)
                    address = Address(submission.lane, tenant, job, share)
                    await accept(journal, address, handoff, patience=self._patience)
            except (Refused, Refusal) as error:
                known = _same(job, asked, await _stored_before(journal, tenant, job, error))
                await _note_start(journal, tenant, job, known)
                return Received(job, submission.lane, origin, known=known)
            if times.start_at:
                await Later(journal.signals).put_off(tenant, job, handoff.n, times.start_at)
        except (Undecided, Unanswered) as error:
            detail = "It is not known to be stored: send it again with this Idempotency-Key, which makes no second job."
            raise unavailable(error, detail, id=job, key=key) from error
        return Received(job, submission.lane, origin, times.start_at, headers=headers)

    async def _share(self, journal: Journal, tenant: str, lane: Lane, stages: Iterable[str]) -> int:
        try:
            async with asyncio.timeout(self._patience):
                return await self._shares.of(journal.signals, tenant, lane, stages)
        except TimeoutError:
            raise Unanswered("the tenant's queues cannot be made now") from None

    @contextmanager
    def _admitted(self, pipeline: Pipeline, asked: Asked, tenant: str, job: str) -> Iterator[Mapping[str, str]]:
        """While a job is stored that may come in; its value is what is left of the tenant's limits. Raises Refusal."""
        with self._quotas.letting_in(tenant, job) as headers:
            self._admission.admit(pipeline, asked.submission.lane, asked.size)
            yield headers


async def accept(journal: Journal, address: Address, handoff: HandOff, *, patience: float | None = None) -> None:
    """Make the job; it is on disk when this returns.

    Raises the journal's Refused when it is there already, Undecided after `patience` seconds, and Refusal for a message
    that the log cannot keep.
    """
    data = handoff.encode()
    try:
        from_json(data)  # what cannot be read back is never stored
    except ValueError:
        raise too_deep() from None
    kind, topic = place(handoff)
    try:
        await journal.appender.append(address, kind, topic, data, expect=0, patience=patience)
    except TooLarge:
        raise too_large() from None


async def _note_start(journal: Journal, tenant: str, job: str, known: list[Record]) -> None:
    """Note again when a job starts that has not: whoever stored it may have been cut off before that."""
    state = fold_job(known)
    step = state.step if state and not state.outcome else None
    if step and step.handoff.start_at:
        await Later(journal.signals).put_off(tenant, job, step.handoff.n, step.handoff.start_at)


async def _stored_before(journal: Journal, tenant: str, job: str, error: Refused | Refusal) -> list[Record]:
    """The log of a job that is there already; raises what refused one that is not."""
    if isinstance(error, Refused):
        return await journal.reader.job(tenant, job, at_least=error.last)
    if (newest := await journal.reader.last(tenant, job)) is None:
        raise error
    return await journal.reader.job(tenant, job, at_least=newest.seq)


def _same(job: str, asked: Asked, records: list[Record]) -> list[Record]:
    """The log of the job that has an Idempotency-Key, if it was asked for with the same words. Raises Refusal."""
    state = fold_job(records)
    if state is None:
        raise Unanswered("the job that has this key cannot be read yet")
    if state.origin.fingerprint != asked.fingerprint:
        raise Refusal(
            KEY_REUSED,
            "A job was stored with this key and another body. Send that body, or take a new Idempotency-Key.",
            id=job,
        )
    return records
