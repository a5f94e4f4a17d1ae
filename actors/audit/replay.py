"""The replay: every job's state, made again from the audit log alone and compared with the live one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from actors.audit.chain import findings, text_flaws
from actors.audit.finding import Finding
from actors.contracts.envelope import Envelope
from actors.contracts.events import HandOff, NotAnEvent, Outcome, Record
from actors.contracts.fold import JobState, Status, fold_job
from actors.contracts.subjects import Subject
from actors.journal.read import Reader
from actors.journal.topology import FACTS, WEEK_S
from actors.journal.trail import Hole, Trail

KEPT = timedelta(seconds=WEEK_S)
AT_ONCE = 32
"""So many jobs are compared beside each other."""

Progress = Callable[[int], None]
"""Told how many entries are done."""


@dataclass(slots=True)
class Replayed:
    """What a replay rebuilt: how many jobs by status, how many of them the live log has no more, and what differs."""

    by_status: Counter[Status] = field(default_factory=Counter)
    forgotten: int = 0
    findings: list[Finding] = field(default_factory=list)


async def replay(trail: Trail, reader: Reader, *, now: datetime, progress: Progress = lambda _: None) -> Replayed:
    """Rebuild and compare, job by job. Raises Unanswered or NoTrail.

    Text is not audited, so what only text tells (tokens, partial answers) is left out on both sides; where all of a
    step's text is still live, it is checked against the digest that the facts carry.
    """
    return await _Replay(trail, reader, now, progress).run()


@dataclass(frozen=True, slots=True)
class _Due:
    """A job whose facts are together, up to a sequence of the live log."""

    job: str
    facts: list[Record]
    upto: int


class _Replay:
    def __init__(self, trail: Trail, reader: Reader, now: datetime, progress: Progress) -> None:
        self._trail = trail
        self._now = now
        self._reader = reader
        self._progress = progress
        self._facts: dict[str, list[Record]] = {}
        self._ended: set[str] = set()
        self._due: list[_Due] = []
        self._done = Replayed()
        self._copied = 0

    async def run(self) -> Replayed:
        span, taken = await self._trail.span(), 0
        async for found in self._trail.read(max(span.first - 1, 0), span.last):
            if isinstance(found, Hole) or found.record is None:
                continue  # `verify` says so; here a job's state will differ
            await self._take(found.job, found.record)
            taken += 1
            if taken % 1_000 == 0:
                self._progress(taken)
        await self._settle_due()
        for job, facts in self._facts.items():
            self._due.append(_Due(job, facts, self._copied))
            if len(self._due) == AT_ONCE:
                await self._settle_due()
        await self._settle_due()
        await self._look_for_others()
        return self._done

    async def _take(self, job: str, record: Record) -> None:
        """Nothing but a review follows an outcome, which changes no state: so a job's facts need not be held longer."""
        self._copied = record.seq
        event = _event(record)
        if job in self._ended:
            if not (isinstance(event, HandOff) and event.n == 1):
                return
            self._ended.discard(job)  # it was forgotten, and made anew under the same key
        self._facts.setdefault(job, []).append(record)
        if isinstance(event, Outcome):
            self._ended.add(job)
            self._due.append(_Due(job, self._facts.pop(job), record.seq))
            if len(self._due) == AT_ONCE:
                await self._settle_due()

    async def _settle_due(self) -> None:
        due, self._due = self._due, []
        await asyncio.gather(*map(self._settle, due))

    async def _settle(self, due: _Due) -> None:
        try:
            await self._compare(due.job, due.facts, due.upto)
        except NotAnEvent as error:
            self._done.findings.append(Finding("altered", due.job, f"it cannot be folded: {error}"))

    async def _compare(self, job: str, facts: Sequence[Record], upto: int) -> None:
        rebuilt = fold_job(facts)
        if rebuilt is None:
            self._done.findings.append(Finding("missing", job, "its facts say nothing of what was asked for"))
            return
        self._done.by_status[rebuilt.status] += 1
        live = await self._live(facts, upto)
        if self._lost(facts, live, ended=rebuilt.outcome is not None):
            live = await self._live(facts, upto)  # it may be on its way out just now
        if not live:
            self._done.forgotten += 1
            return
        self._done.findings += findings(job, text_flaws(live))
        if lost := self._lost(facts, live, ended=rebuilt.outcome is not None):
            numbers = ", ".join(str(record.event.n) for record in lost)
            self._done.findings.append(Finding("missing", job, f"the live log lacks its event {numbers}"))
            return
        # What is left of a job that expires, or is being forgotten, is compared with the same part of it.
        first = next((r.seq for r in live if not r.is_text), 0)
        differs = _differences(fold_job(live), fold_job([r for r in facts if r.seq >= first]))
        self._done.findings += [Finding("differs", job, what) for what in differs]

    async def _live(self, facts: Sequence[Record], upto: int) -> list[Record]:
        subject = Subject.parse(facts[0].subject)
        found = await self._reader.job(subject.tenant, subject.job)
        return [record for record in found if facts[0].seq <= record.seq <= upto]

    def _lost(self, facts: Sequence[Record], live: Sequence[Record], *, ended: bool) -> list[Record]:
        """The facts that the live log should have. What expires, or is forgotten, goes from its beginning on."""
        there = {record.seq for record in live}
        gone = [r for r in facts if r.seq not in there and r.stored_at and r.stored_at + KEPT > self._now]
        first = next((r.seq for r in facts if r.seq in there), facts[-1].seq) if ended else 0
        return [record for record in gone if record.seq > first]

    async def _look_for_others(self) -> None:
        """Jobs that are live, that the audit log should have by now, and has not."""
        position, known = 0, self._ended | self._facts.keys()
        missing: dict[str, None] = {}
        while page := await self._reader.after(FACTS, position):
            jobs = (Subject.parse(r.subject).job for r in page if r.seq <= self._copied)
            missing |= dict.fromkeys(job for job in jobs if job not in known)
            position = page[-1].seq
        self._done.findings += [Finding("missing", job, "it is live, and nowhere in the audit log") for job in missing]


def _event(record: Record) -> Envelope | None:
    try:
        return record.event
    except NotAnEvent:
        return None


def known(state: JobState) -> dict[str, Any]:
    """What facts alone tell of a job's state."""
    step = state.step
    told: dict[str, Any] = {
        "status": state.status,
        "origin": state.origin,
        "outcome": state.outcome,
        "started": state.started,
        "usage": state.usage,
        "stage": state.stage,
        "attempts": state.attempts,
        "last fact": state.chain.prev,
    }
    if step is None:
        return told
    return told | {
        "hand-off": step.handoff,
        "closed": step.closed,
        "cancel": (step.cancel, step.cancel_reason),
        "failures": step.failures,
        "crashes": step.crashes,
        "owner": step.owner,
        "open": step.open,
        "errors": step.errors,
        "retry_at": step.retry_at,
        "parts": step.parts,
        "question": step.question,
        "told": step.told,
    }


def _differences(live: JobState | None, rebuilt: JobState | None) -> list[str]:
    """What is one thing in the live log and another in the rebuilt state; never what it is: that may be a prompt."""
    if live is None or rebuilt is None:
        return [] if live is rebuilt else ["one of the two logs has only part of it"]
    ours, theirs = known(rebuilt), known(live)
    wrong = [name for name in theirs if name not in ours or ours[name] != theirs[name]]
    return [f"{', '.join(wrong)}: not the same in the live log"] if wrong else []
