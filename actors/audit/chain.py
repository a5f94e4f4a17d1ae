"""The chain of each job's facts, checked as the audit log has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from pydantic import ValidationError

from actors.audit.finding import Finding, Flaw
from actors.contracts.chain import NO_TEXT, digest, text_digest
from actors.contracts.envelope import Fact
from actors.contracts.events import HandOff, NotAnEvent, Outcome, Record, Unknown, place
from actors.contracts.subjects import Subject

REVIEW = "review."


class Link(NamedTuple):
    """What a fact has to do with those before and after it."""

    n: int
    kind: str
    prev: str
    digest: str
    is_outcome: bool


class Chain:
    """One job's facts, taken in the order of the log; holds little while they are whole, for there are many jobs.

    `seq` is the last fact's sequence in `JOBS`; `began` is when the job was accepted, as far as its facts say.
    """

    __slots__ = ("_ended", "_first", "_links", "_own", "began", "newest_at", "seq", "tenant")

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.seq = 0
        self.began: datetime | None = None
        self.newest_at: datetime | None = None
        self._first: Link | None = None
        self._links: list[Link] = []
        self._own: list[tuple[Flaw, str]] = []
        self._ended = False

    @property
    def has_outcome(self) -> bool:
        return self._ended

    @property
    def has_beginning(self) -> bool:
        return self._first is None or self._first.n == 1

    def take(self, record: Record) -> None:
        """The next fact of the job."""
        self.seq = record.seq
        try:
            event = record.event
            fact = event if isinstance(event, Fact) else Fact.model_validate_json(record.data)
        except (NotAnEvent, ValidationError) as error:
            self._own.append(("altered", f"fact {record.seq} cannot be read: {error}".split("\n")[0]))
            return
        subject = Subject.parse(record.subject)
        if not isinstance(event, Unknown) and place(event) != (subject.kind, subject.topic):
            self._own.append(("altered", f"event {event.n} ({event.kind}) stands on the subject {record.subject}"))
        if isinstance(event, HandOff | Outcome):
            self.began = self.began or event.origin.created
        self.newest_at = fact.at
        self._add(Link(fact.n, fact.kind, fact.prev, digest(record.data), isinstance(event, Outcome)))

    def _add(self, link: Link) -> None:
        # As long as nothing is wrong the newest fact is all that the next one is compared with.
        if len(self._links) == 1 and not any(_flaws([self._links[0], link])):
            self._links[0] = link
        else:
            self._links.append(link)
        if self._first is None or link.n < self._first.n:
            self._first = link
        self._ended = self._ended or link.is_outcome

    def ends_before(self, record: Record) -> bool:
        """Whether this fact begins another job of the same id: one may be made anew once the first is forgotten."""
        if not self._ended or self._first is None:
            return False
        try:
            event = record.event
        except NotAnEvent:
            return False
        is_first = isinstance(event, HandOff) and event.n == 1 and not event.prev
        return is_first and digest(record.data) != self._first.digest

    def flaws(self) -> Iterator[tuple[Flaw, str]]:
        """What is wrong, apart from a missing beginning or end."""
        yield from self._own
        yield from _flaws(self._links)

    def beginning(self) -> str:
        """Which event is the first of those that are here, for people."""
        return f"event {self._first.n} ({self._first.kind})" if self._first else "nothing"


def _flaws(links: Sequence[Link]) -> Iterator[tuple[Flaw, str]]:
    """What is wrong with facts that stand in the log in this order."""
    for before, link in pairwise(links):
        if link.n < before.n:
            yield "reordered", f"event {link.n} ({link.kind}) stands after event {before.n}"
    ended = False
    for before, link in pairwise(sorted(links, key=lambda link: link.n)):
        ended = ended or before.is_outcome or before.kind.startswith(REVIEW)
        if link.n == before.n:
            yield "added", f"there are two events {link.n} ({before.kind} and {link.kind})"
        elif ended and not link.kind.startswith(REVIEW):
            yield "added", f"event {link.n} ({link.kind}) follows the outcome"
        elif link.prev != before.digest and link.n == before.n + 1:
            yield "altered", f"event {before.n} ({before.kind}) is not what event {link.n} says it was"
        elif link.prev != before.digest:
            yield "missing", f"between event {before.n} and event {link.n} a fact is gone, or event {before.n} changed"


def text_flaws(records: Iterable[Record]) -> Iterator[tuple[Flaw, str]]:
    """Whether the text of a job, where all of it is still there, is what the facts say it was."""
    text, expected, whole = NO_TEXT, 1, True
    for record in records:
        event = record.event
        whole = whole and event.n == expected
        expected = event.n + 1
        if record.is_text:
            text = text_digest(text, record.data)
        elif (isinstance(event, HandOff) and event.of is None) or isinstance(event, Outcome):
            if whole and event.n > 1 and (event.text or NO_TEXT) != text:
                yield "altered", f"the text before event {event.n} ({event.kind}) is not what that says it was"
            text, whole = NO_TEXT, True


def findings(job: str, flaws: Iterable[tuple[Flaw, str]]) -> list[Finding]:
    """The same, as findings about a job."""
    return [Finding(flaw, job, detail) for flaw, detail in dict.fromkeys(flaws)]
