"""The verification: whether every fact is in the audit log, unaltered and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from actors.audit.chain import Chain, findings
from actors.audit.checkpoint import Checkpoint, Seal, Stretch, line_digest, lines
from actors.audit.finding import Finding, Flaw
from actors.contracts.events import NotAnEvent, Record
from actors.contracts.subjects import Subject
from actors.journal.read import Reader
from actors.journal.topology import FACTS
from actors.journal.trail import Entry, Hole, Span, Trail

LONGEST_LIFE = timedelta(days=7)
"""A job has its outcome before it is so old."""

LAG = timedelta(minutes=1)
"""A copy of the log that lacks what is older than this does not merely lag."""

Progress = Callable[[int], None]
"""Told how many entries are done."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """A file of checkpoints, and the seal that they are under."""

    path: Path
    seal: Seal


@dataclass(slots=True)
class Verdict:
    """What a verification found, and over how much. `sealed` entries are covered by checkpoints."""

    span: Span
    findings: list[Finding] = field(default_factory=list)
    entries: int = 0
    jobs: int = 0
    running: int = 0
    checkpoints: int = 0
    sealed: int = 0

    @property
    def is_whole(self) -> bool:
        return not self.findings


async def verify(
    trail: Trail, reader: Reader, checkpoints: Checkpoints | None, *, now: datetime, progress: Progress = lambda _: None
) -> Verdict:
    """Read the whole audit log once, and say what is wrong. Raises Unanswered, NoTrail or CheckpointError.

    A job's chain shows what was altered, is missing or stands in the wrong place; what was cut off the end of a job is
    shown by the live log, where a job stays until it has its outcome; and that whole jobs or the end of the log are
    gone, or that a chain was made anew, is shown by the checkpoints.
    """
    return await _Verification(trail, reader, checkpoints, now, progress).run()


class _Verification:
    def __init__(
        self, trail: Trail, reader: Reader, checkpoints: Checkpoints | None, now: datetime, progress: Progress
    ) -> None:
        self._trail = trail
        self._reader = reader
        self._checkpoints = checkpoints
        self._now = now
        self._progress = progress
        self._chains: dict[str, Chain] = {}
        self._begins_at: datetime | None = None
        self._begins_late = False
        self._copied = 0
        self._verdict: Verdict

    async def run(self) -> Verdict:
        span = await self._trail.span()
        verdict = self._verdict = Verdict(span)
        sealed = _Sealed(self._checkpoints, span, self._now) if self._checkpoints else None
        async for found in self._trail.read(max(span.first - 1, 0), span.last):
            if isinstance(found, Hole):
                await self._note_hole(found)
            else:
                self._take(found)
                if sealed:
                    sealed.take(found)
                if verdict.entries % 1_000 == 0:
                    self._progress(verdict.entries)
        if sealed:
            verdict.findings += sealed.findings()
            verdict.checkpoints, verdict.sealed = sealed.count, sealed.entries
        for job, chain in self._chains.items():
            self._judge(job, chain)
            if not chain.has_outcome:
                await self._look_at_end(job, chain)
        return verdict

    def _take(self, entry: Entry) -> None:
        record, verdict = entry.record, self._verdict
        verdict.entries += 1
        if entry.from_leader and entry.stored_at < self._now - LAG:
            lacking = f"the copy on one server lacks entry {entry.seq}, which the leader has"
            verdict.findings.append(Finding("missing", entry.job, lacking))
        if record is None:
            verdict.findings.append(Finding("added", "", f"entry {entry.seq} is no copy of a fact: {entry.source!r}"))
            return
        if self._begins_at is None:
            self._begins_at, self._begins_late = entry.stored_at, record.seq > 1
        self._copied = record.seq
        chain = self._chains.get(entry.job)
        if chain and chain.ends_before(record):
            self._judge(entry.job, chain)
            chain = None
        if chain is None:
            chain = self._chains[entry.job] = Chain(Subject.parse(record.subject).tenant)
            verdict.jobs += 1
        chain.take(record)

    def _judge(self, job: str, chain: Chain) -> None:
        self._verdict.findings += findings(job, chain.flaws())
        if not chain.has_beginning and not self._may_lack_its_beginning(chain):
            self._verdict.findings.append(Finding("missing", job, f"it begins with {chain.beginning()}"))

    async def _note_hole(self, hole: Hole) -> None:
        """Name the jobs whose facts are gone, as far as the live log still has them."""
        where = f"entry {hole.first}" if hole.first == hole.last else f"entries {hole.first} to {hole.last}"
        named: dict[str, list[str]] = {}
        position, end = hole.after, hole.before or float("inf")
        while page := await self._reader.after(FACTS, position):
            for record in page:
                if record.seq < end:
                    named.setdefault(Subject.parse(record.subject).job, []).append(_number(record))
            position = page[-1].seq
            if position >= end:
                break
        gone = [
            Finding("missing", job, f"{where} cannot be read; among them its event {', '.join(numbers)}")
            for job, numbers in named.items()
        ]
        self._verdict.findings += gone or [Finding("missing", "", f"{where} cannot be read")]

    def _may_lack_its_beginning(self, chain: Chain) -> bool:
        """Whether this job's first facts were older than what the log keeps, or than the log itself."""
        if not self._begins_late or self._begins_at is None:
            return False
        if chain.began is not None:
            return chain.began <= self._begins_at
        return chain.newest_at is None or chain.newest_at <= self._begins_at + LONGEST_LIFE

    async def _look_at_end(self, job: str, chain: Chain) -> None:
        """A job without an outcome is in the live log, with nothing between its last fact here and the end of this."""
        self._verdict.running += 1
        live = [r for r in await self._reader.job(chain.tenant, job) if not r.is_text]
        cut = [_number(record) for record in live if chain.seq < record.seq <= self._copied]
        if not live and job not in await self._jobs_since():
            detail = "it has no outcome, and the live log has it no more"
            self._verdict.findings.append(Finding("truncated", job, detail))
        elif cut:
            detail = f"it ends before event {cut[0]}, which the live log has"
            self._verdict.findings.append(Finding("truncated", job, detail))

    async def _jobs_since(self) -> set[str]:
        """The jobs of the entries that have come since this began: one of those may have ended, and be forgotten."""
        upto = (await self._trail.span()).last
        later = [found async for found in self._trail.read(self._verdict.span.last, upto)]
        return {found.job for found in later if isinstance(found, Entry)}


class _Sealed:
    """The entries against the checkpoints: each stretch is what was signed, and none is missing."""

    def __init__(self, checkpoints: Checkpoints, span: Span, now: datetime) -> None:
        """Raises CheckpointError."""
        self.count = 0
        self.entries = 0
        self._span = span
        self._now = now
        self._findings: list[Finding] = []
        self._signed = self._opened(checkpoints)
        self._current = next(self._signed, None)
        self._stretch = Stretch()

    def take(self, entry: Entry) -> None:
        self._close_before(entry.seq)
        if self._current and entry.seq >= self._current.first:
            self._stretch.take(entry)
            self.entries += 1

    def findings(self) -> list[Finding]:
        """What is wrong, once every entry was taken."""
        self._close_before(None)
        return self._findings

    def _close_before(self, seq: int | None) -> None:
        """Judge the stretches that end before `seq`; all of them, when it is None."""
        while (current := self._current) and (seq is None or current.last < seq):
            self._judge(current)
            self._current, self._stretch = next(self._signed, None), Stretch()

    def _judge(self, signed: Checkpoint) -> None:
        if self._stretch.digest == signed.digest:
            return
        expired = signed.since + timedelta(seconds=self._span.max_age) <= self._now
        if signed.first < self._span.first and self._span.max_age and expired:
            return
        found, where = self._stretch.jobs, f"entries {signed.first} to {signed.last}"
        gone = [job for job in signed.jobs if job not in found]
        changed = [job for job in signed.jobs if job in found and found[job] != signed.jobs[job]]
        added = [job for job in found if job not in signed.jobs]
        is_less, is_end = self._stretch.entries < signed.entries, signed.last > self._span.last
        lost: Flaw = "truncated" if is_end else "missing"
        told = f"a checkpoint of {signed.at:%Y-%m-%d %H:%M:%S} holds facts of it in {where}"
        self._findings += [Finding(lost, job, f"{told}: none are there") for job in gone]
        self._findings += [
            Finding(lost if is_less else "altered", job, f"{told}: they are not what was signed") for job in changed
        ]
        self._findings += [Finding("added", job, f"{where} had none of it when they were signed") for job in added]
        if not (gone or changed or added):
            self._findings.append(Finding("reordered", "", f"the jobs of {where} are interleaved in another order"))

    def _opened(self, checkpoints: Checkpoints) -> Iterator[Checkpoint]:
        last, prev, total = 0, "", 0
        for number, line in enumerate(lines(checkpoints.path), 1):
            signed = checkpoints.seal.opened(line)
            if signed is None:
                self._note(checkpoints, number, "is not what this key signed")
                prev = line_digest(line)
                continue
            if signed.prev != prev or (number > 1 and signed.total != total + signed.entries):
                self._note(checkpoints, number, "does not follow the line before it: lines are missing or were moved")
            elif number > 1 and signed.first != last + 1 and signed.first != self._span.first:
                self._note(checkpoints, number, f"begins with entry {signed.first}; the one before ends with {last}")
            if signed.last > last:
                last, prev, total = signed.last, line_digest(line), signed.total
                self.count += 1
                yield signed

    def _note(self, checkpoints: Checkpoints, number: int, what: str) -> None:
        self._findings.append(Finding("checkpoint", "", f"line {number} of {checkpoints.path} {what}"))


def _number(record: Record) -> str:
    """The number of an event, for people."""
    try:
        return str(record.event.n)
    except NotAnEvent:
        return "?"


def jobs_of(findings: Iterable[Finding]) -> list[str]:
    """The jobs that something is wrong with, each once."""
    return list(dict.fromkeys(finding.job for finding in findings if finding.job))
