"""The list of jobs over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import get_args

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from actors.contracts.fold import Status
from actors.contracts.subjects import is_job
from actors.http.caller import caller_of
from actors.http.problem import BAD_PAGE, Refusal, unavailable
from actors.http.reports import links
from actors.journal import Unanswered
from actors.journal.connection import ApiError
from actors.journal.journal import PatientJournal
from actors.projection.entry import Entry
from actors.projection.projector import Projector
from actors.projection.table import Query, Table, TableError, place

log = logging.getLogger(__name__)

PAGE = 50
LONGEST_PAGE = 200
PATIENCE_S = 1.0
"""How long a list waits to be brought up to date; after that it says how far behind it is."""

STATUSES: tuple[str, ...] = get_args(Status)

_CURSOR = re.compile(r"([0-9]{1,17})\.([a-z2-7]{26})")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,15}(?:Z|[+-][0-9]{2}:[0-9]{2})")


class Listing:
    """Answers with jobs from the table of this machine, which is made of the log. Nothing is decided by it."""

    def __init__(self, journals: PatientJournal, folder: Path) -> None:
        self._journals = journals
        self._table = Table(folder)
        self._projector = Projector(self._table)

    @property
    def routes(self) -> list[BaseRoute]:
        return [Route("/v1/jobs", self.page)]

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """While this is entered, the table is brought forward now and then."""
        keeping = asyncio.create_task(self._projector.run(self._journals))
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
            self._table.close()

    async def page(self, request: Request) -> Response:
        """A page of jobs, the newest first; `behind` is how many facts of the log it does not know yet, if known."""
        query = _query(request)
        try:
            try:
                behind, found = await self._found(query)
            except TableError:
                behind, found = await self._found(query)  # what was damaged is a new one now
        except TableError as error:
            raise unavailable(error, "The list of jobs cannot be kept here: the server's log says why.") from error
        more = place(found[-1]) if len(found) == query.limit else None
        told = {"jobs": [_told(entry) for entry in found], "next": more, "behind": behind}
        return Response(to_json(told), media_type="application/json", headers={"Cache-Control": "no-store"})

    async def _found(self, query: Query) -> tuple[int | None, list[Entry]]:
        return await self._up_to_date(), await self._table.aside(self._table.page, query)

    async def _up_to_date(self) -> int | None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._projector.bring_forward(await self._journals.connected(PATIENCE_S))
                return 0
        except (Unanswered, ApiError, TimeoutError) as error:
            log.info("the list of jobs is behind", extra={"action": "projection_behind", "reason": str(error)})
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._projector.behind(await self._journals.connected(PATIENCE_S))
        except (Unanswered, ApiError, TimeoutError):
            return None


def _told(entry: Entry) -> dict[str, object]:
    return {
        "id": entry.job,
        "status": entry.status,
        "pipeline": entry.pipeline,
        "lane": entry.lane,
        "stage": entry.stage,
        "created": entry.created,
        "updated": entry.updated,
        "links": links(entry.job),
    }


def _query(request: Request) -> Query:
    """Raises Refusal."""
    asked = request.query_params
    statuses = [one for one in asked.get("status", "").split(",") if one]
    if unknown := next((one for one in statuses if one not in STATUSES), None):
        raise Refusal(BAD_PAGE, f"There is no status {unknown[:32]!r}; take some of: {', '.join(STATUSES)}.")
    return Query(
        tenant=caller_of(request).tenants,
        limit=_limit(asked.get("limit")),
        statuses=statuses,
        pipeline=asked.get("pipeline"),
        since=_moment("since", asked.get("since")),
        until=_moment("until", asked.get("until")),
        before=_cursor(asked.get("cursor")),
    )


def _limit(said: str | None) -> int:
    if said is None:
        return PAGE
    if said.isascii() and said.isdecimal() and len(said) < 4 and 1 <= int(said) <= LONGEST_PAGE:
        return int(said)
    raise Refusal(BAD_PAGE, f"`limit` is a number from 1 to {LONGEST_PAGE}.")


def _moment(name: str, said: str | None) -> datetime | None:
    if said is None:
        return None
    with contextlib.suppress(ValueError):
        if _MOMENT.fullmatch(said):
            return datetime.fromisoformat(said)
    raise Refusal(
        BAD_PAGE, f"`{name}` is a time with its offset, such as 2026-11-23T09:00:00Z (a plus sign is %2B there)."
    )


def _cursor(said: str | None) -> tuple[int, str] | None:
    if said is None:
        return None
    if (found := _CURSOR.fullmatch(said)) and is_job(found[2]):
        return int(found[1]), found[2]
    raise Refusal(BAD_PAGE, "`cursor` is the `next` of the page before, as it is.")
