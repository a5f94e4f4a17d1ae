"""Forgetting: room is made for new jobs by dropping old ones that have ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from actors.contracts.events import NotAnEvent, Record, ReviewDiscarded
from actors.contracts.subjects import DEAD, DONE, REVIEW, Subject, facts
from actors.journal.connection import Unanswered
from actors.journal.forget import audited, forget
from actors.journal.journal import Journal
from actors.journal.lag import stage_flows
from actors.journal.room import Room, measure, size

log = logging.getLogger(__name__)

HIGH = 0.7
"""The log forgets when more than this part of it is taken, by bytes or by jobs …"""

LOW = 0.6
"""… until no more than this is."""

LOOK_EVERY_S = 10.0
HANDFUL = 16
"""So many jobs are forgotten between two looks at how much room there is."""


class Forgetting:
    """Drops the text of jobs that have ended, then those jobs, then discarded dead letters; each oldest first.

    A job has ended when the log holds its outcome. Jobs that run are never touched, and of dead letters that nobody has
    discarded only the text goes; facts wait for the audit, where there is one. It may be cut off anywhere, and two may
    be at it: doing it again is harmless.
    """

    def __init__(self, stages: Sequence[str], *, max_jobs: int, every: float = LOOK_EVERY_S) -> None:
        self._stages = tuple(stages)
        self._max_jobs = max_jobs
        self._every = every
        self._silent = {DONE: 0, DEAD: 0}
        self._alarms: set[str] = set()

    async def run(self, journal: Journal) -> None:
        """Look every few seconds until cancelled. Nothing else may stand in line with it: all appends wait for room."""
        while True:
            try:
                await self.make_room(journal)
            except Unanswered as error:
                log.info("no room was made", extra={"action": "forgetting_retry", "reason": str(error)})
            await asyncio.sleep(self._every)

    async def make_room(self, journal: Journal) -> int:
        """Forget what has to be; how many jobs are gone. Raises Unanswered."""
        flows = await stage_flows(journal.signals, self._stages)
        before = room = await measure(journal, flows.values(), max_jobs=self._max_jobs)
        if room.taken > HIGH:
            room = await self._forget_text(journal, room)
            room = await self._forget_jobs(journal, room, DONE, _has_room)
            room = await self._forget_jobs(journal, room, REVIEW, _has_room)
        room = await self._forget_jobs(journal, room, REVIEW, _has_few_dead)
        if room != before:
            told = {"action": "room_made", "bytes": before.bytes - room.bytes, "jobs": before.jobs - room.jobs}
            log.info("made room by forgetting", extra=told)
        self._alarm("log_short_of_room", _SHORT, not_well=room.taken > HIGH, room=room)
        self._alarm("many_dead_letters", _MANY_DEAD, not_well=not _has_few_dead(room), room=room)
        return before.jobs - room.jobs

    async def _forget_text(self, journal: Journal, room: Room) -> Room:
        """Where bytes are scarce. What was gone through in an earlier round has no text any more."""
        if room.bytes_taken <= HIGH:
            return room
        for topic in (DONE, DEAD):
            while room.bytes_taken > LOW and (page := await _ended(journal, topic, self._silent[topic])):
                for outcome in page:
                    await _forget_text_of(journal, outcome)
                    self._silent[topic] = outcome.seq
                room = await _look_again(journal, room)
        return room

    async def _forget_jobs(self, journal: Journal, room: Room, topic: str, enough: Callable[[Room], bool]) -> Room:
        if enough(room):
            return room
        known, position = await audited(journal.signals), 0
        while not enough(room) and (page := await _ended(journal, topic, position)):
            gone = sum([await forget_job(journal, record, known) for record in page])
            room = await _look_again(journal, room, jobs=gone, dead=gone if topic == REVIEW else 0)
            position = page[-1].seq
        return room

    def _alarm(self, action: str, words: str, *, not_well: bool, room: Room) -> None:
        """Say it once, and again only after it was well in between."""
        if not_well and action not in self._alarms:
            parts = {"bytes": round(room.bytes_taken, 2), "jobs": round(room.jobs_taken, 2)}
            log.error(words, extra={"action": action, "dead_letters": room.dead_letters, "taken": parts})
        (self._alarms.add if not_well else self._alarms.discard)(action)


_SHORT = (
    "the log is short of room, and nothing more in it may be forgotten: raise HEADRACE_MAX_BYTES or HEADRACE_MAX_JOBS, "
    "discard dead letters, and see that the audit log, which has to have everything first, is not full"
)
_MANY_DEAD = "there are too many dead letters: redrive what can be saved, and discard them"


def _has_room(room: Room) -> bool:
    return room.taken <= LOW


def _has_few_dead(room: Room) -> bool:
    return room.dead_letters <= room.max_dead_letters


async def _ended(journal: Journal, topic: str, after: int) -> list[Record]:
    """The next facts on a topic that only jobs have which have ended."""
    return await journal.reader.after(facts(topic), after, most=HANDFUL)


async def _forget_text_of(journal: Journal, outcome: Record) -> None:
    job, after = Subject.parse(outcome.subject).address, 0
    while page := await journal.reader.after(job.text_filter, after):
        await forget(journal.signals, [record.seq for record in page if record.seq < outcome.seq])
        after = page[-1].seq


async def forget_job(journal: Journal, end: Record, known: int | None) -> bool:
    """Forget the job that an outcome or a review is of; whether it may go.

    Not whether it was there: what another clock has just forgotten is room that was made too. That by which the job was
    found goes last, so that whoever is cut off finds it again. A new job with the same id lies behind all of it.
    """
    job, last = Subject.parse(end.subject).address, end.seq
    if f".{REVIEW}." in end.subject:
        newest = await journal.reader.last(job.tenant, job.job)
        if newest is None or not _is_discard(end):
            return False
        last = newest.seq  # a redrive that was under way may have left word behind the discard
    if known is not None and known < last:
        return False
    records = await journal.reader.job(job.tenant, job.job)
    await forget(journal.signals, [r.seq for r in records if r.seq <= last and r.seq != end.seq])
    await forget(journal.signals, [end.seq])
    return True


def _is_discard(record: Record) -> bool:
    try:
        return isinstance(record.event, ReviewDiscarded)
    except NotAnEvent:
        return False


async def _look_again(journal: Journal, room: Room, *, jobs: int = 0, dead: int = 0) -> Room:
    taken, most = await size(journal)
    return replace(room, bytes=taken, max_bytes=most, jobs=room.jobs - jobs, dead_letters=room.dead_letters - dead)
