"""Acceptance: a job's first message is stored, unless there is such a job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from pydantic_core import from_json

from actors.contracts.events import HandOff, Origin, Record, place
from actors.contracts.fold import fold_job
from actors.contracts.messages import Packed
from actors.contracts.subjects import Address, Lane, job_id
from actors.http.admission import Admission
from actors.http.body import too_deep, too_large
from actors.http.problem import KEY_REUSED, QUOTA, Refusal, unavailable
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
                headers = await self._admit(journal, pipeline, asked, tenant, job)
                stages = [stage.name for stage in pipeline.stages]
                share = await self._shares.of(journal.signals, tenant, submission.lane, stages)
                address = Address(submission.lane, tenant, job, share)
                await accept(journal, address, handoff, patience=self._patience)
                if times.start_at:
                    await Later(journal.signals).put_off(tenant, job, handoff.n, times.start_at)
            except Refused as refused:
                self._quotas.withdraw(tenant, job)
                known = _same(job, asked, await journal.reader.job(tenant, job, at_least=refused.last))
                await _note_start(journal, tenant, job, known)
                return Received(job, submission.lane, origin, known=known)
        except (Undecided, Unanswered) as error:
            detail = "It is not known to be stored: send it again with this Idempotency-Key, which makes no second job."
            raise unavailable(error, detail, id=job, key=key) from error
        return Received(job, submission.lane, origin, times.start_at, headers=headers)

    async def _admit(
        self, journal: Journal, pipeline: Pipeline, asked: Asked, tenant: str, job: str
    ) -> Mapping[str, str]:
        """What is left of the tenant's limits. Raises Refusal when this is no time for a new job, and Refused when it
        is no new one.
        """
        try:
            headers = self._quotas.admit(tenant, job)
            self._admission.admit(pipeline, asked.submission.lane, asked.size)
            return headers
        except Refusal as refusal:
            if refusal.kind != QUOTA:
                self._quotas.withdraw(tenant, job)
            if known := await journal.reader.last(tenant, job):
                raise Refused(known.seq) from None
            raise


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
