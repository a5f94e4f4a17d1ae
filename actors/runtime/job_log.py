"""A job's log in the hands of somebody who does not run the job: the ingress, or a person."""

from __future__ import annotations

from collections.abc import Callable

from actors.contracts.chain import Chain
from actors.contracts.envelope import Fact
from actors.contracts.events import HandOff, Record, place
from actors.contracts.fold import JobState, chain_of, fold_job
from actors.contracts.subjects import Subject
from actors.journal.append import FOR_EVER, Refused
from actors.journal.journal import Journal
from actors.runtime.writer import Clock, FactStamp


class JobLog:
    """What the leader knows of a job, and appends that compare with it.

    A writer looks at `state`, decides, appends, and decides again when the append was refused. Raises Unanswered when
    the log cannot be read.
    """

    def __init__(self, journal: Journal, tenant: str, job: str, *, by: str, now: Clock) -> None:
        self._journal = journal
        self._tenant = tenant
        self.job = job
        self._by = by
        self._now = now
        self.records: list[Record] = []
        self.state: JobState | None = None
        self._chain = Chain()

    async def read(self) -> JobState | None:
        """All of it. None when there is no such job."""
        last = await self._journal.reader.last(self._tenant, self.job)
        if last is None:
            self.records, self.state = [], None
            return None
        self.records = await self._journal.reader.job(self._tenant, self.job, at_least=last.seq)
        self._fold()
        return self.state

    async def append(self, build: Callable[[FactStamp], Fact], *, keep: bool = False) -> bool:
        """Store a fact; False when something else was stored meanwhile, which has been read then.

        `keep` says that it is to stay for as long as a dead letter does. Tries until it is cancelled.
        """
        chain = self._chain
        fact = build(FactStamp(n=chain.n + 1, by=self._by, at=self._now(), prev=chain.prev))
        address, data, (kind, topic) = Subject.parse(self.records[-1].subject).address, fact.encode(), place(fact)
        ttl = FOR_EVER if keep else None
        again = isinstance(fact, HandOff) and fact.of is not None
        try:
            seq = await self._journal.appender.append(
                address, kind, topic, data, expect=chain.seq, ttl=ttl, again=again
            )
        except Refused as refused:
            await self._catch_up(refused.last)
            return False
        self.records.append(Record(seq, str(address.subject(kind, topic)), data))
        self._fold()
        return True

    @property
    def text_digest(self) -> str | None:
        """The digest of what the newest step has said; None when it said nothing."""
        return self._chain.text or None

    async def _catch_up(self, last: int) -> None:
        """Read what is new. A job that speaks is always ahead of who folds all of it: text only moves the end."""
        known = self._chain.seq
        new = await self._journal.reader.job(self._tenant, self.job, after=known, at_least=last) if last > known else []
        if not new:  # text has expired, and the end with it
            await self.read()
            return
        self.records += new
        if all(record.is_text for record in new):
            self._chain = chain_of(new, self._chain)
        else:
            self._fold()

    def _fold(self) -> None:
        self.state = fold_job(self.records)
        self._chain = self.state.chain if self.state else chain_of(self.records)
