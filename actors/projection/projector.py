"""The projector: it enters into the table of jobs what the log has gained."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from actors.contracts.chain import digest
from actors.contracts.subjects import DEAD, DONE, Subject, facts
from actors.journal import Journal, Unanswered
from actors.journal.connection import ApiError
from actors.journal.journal import PatientJournal
from actors.journal.read import PAGE
from actors.journal.topology import FACTS, JOBS, WEEK_S
from actors.projection.table import Position, Table, TableError

log = logging.getLogger(__name__)

EVERY_S = 2.0
"""How often it is brought forward while nobody asks; who asks for the list does it at once."""

FEW = 32
"""How many facts are entered at once while nobody asks: it is Python, and requests wait for it."""

EASE = 20
"""What is entered while nobody asks is followed by a pause so many times as long."""

REST = 50
"""A look for what was forgotten is followed by a rest so many times as long: the server lists all that has ended."""

SWEEP_S = 1.0
STRUCK_AT_ONCE = 500


class Projector:
    """Follows the facts of all jobs into a table, from where the table stands. It writes nothing anywhere else.

    Each HTTP process has one, over the table of its machine, so that whoever asks is answered from here. What was
    forgotten or deleted leaves the table within seconds. A table of another log, or of one that was damaged and goes on
    with other facts under the same sequences, begins anew.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._turn = asyncio.Lock()
        self._swept: tuple[object, ...] = ()
        self._rests_until = 0.0

    async def run(self, journals: PatientJournal) -> None:
        """Bring the table forward every few seconds, until cancelled."""
        complained, pause = False, EVERY_S
        while True:
            await asyncio.sleep(pause)
            began, pause = time.monotonic(), EVERY_S
            try:
                if await self.bring_forward(await journals.connected(EVERY_S), at_once=False):
                    pause = EASE * (time.monotonic() - began)
                complained = False
            except (Unanswered, ApiError) as error:
                log.info("the list of jobs waits", extra={"action": "projection_waits", "reason": str(error)})
            except TableError as error:
                if not complained:
                    log.error("the list of jobs is not kept", extra={"action": "no_projection", "reason": str(error)})
                complained = True

    async def bring_forward(self, journal: Journal, *, at_once: bool = True) -> bool:
        """Enter all that there is by now, or a few facts, and strike out what is not there any more.

        Whether there is more. Raises Unanswered, ApiError or TableError.
        """
        async with self._turn:
            info = await journal.signals.api(f"STREAM.INFO.{JOBS}")
            position = await self._sure(journal, info)
            while page := await journal.reader.after(FACTS, position.seq, most=PAGE if at_once else FEW):
                after = Position(page[-1].seq, position.log, digest(page[-1].data))
                if await self._table.aside(self._table.bring_forward, page, position, after):
                    position = after
                else:
                    position = await self._table.aside(self._table.position)  # another process has been at it
                if not at_once and len(page) == FEW:
                    return True
            await self._sweep(journal, info["state"])
            return False

    async def behind(self, journal: Journal) -> int:
        """How many facts the table does not know yet. Raises Unanswered or TableError."""
        position = await self._table.aside(self._table.position)
        return await journal.reader.count(FACTS, after=position.seq)

    async def _sure(self, journal: Journal, info: dict[str, Any]) -> Position:
        """Where the table stands, if that is a place in this log; else the beginning."""
        position = await self._table.aside(self._table.position)
        is_place = position.log == info["created"] and position.seq <= info["state"]["last_seq"]
        if is_place and position.seq:
            there = await journal.reader.after(FACTS, position.seq - 1, most=1)
            is_place = not there or there[0].seq != position.seq or digest(there[0].data) == position.digest
        if is_place:
            return position
        return await self._table.aside(self._table.begin_anew, info["created"])

    async def _sweep(self, journal: Journal, state: dict[str, Any]) -> None:
        """Strike out what was forgotten. That is only looked for when something was, and not all the time."""
        removed = (state["first_seq"], state.get("num_deleted", 0))
        began = time.monotonic()
        if removed == self._swept or began < self._rests_until:
            return
        known = await self._table.aside(self._table.ended)  # first, so that all of it is in the log unless it is gone
        kept = {
            (subject.tenant, subject.job)
            for topic in (DONE, DEAD)
            for subject in map(Subject.of, await journal.reader.subjects(facts(topic)))
            if subject
        }
        gone = iter(known - kept)
        while some := list(islice(gone, STRUCK_AT_ONCE)):
            await self._table.aside(self._table.strike, some)
        older = datetime.now(UTC) - timedelta(seconds=WEEK_S)
        await self._table.aside(self._table.strike_open, older=older)
        self._swept = removed
        now = time.monotonic()
        self._rests_until = now + max(SWEEP_S, REST * (now - began))
