"""The result actor: it fans the events of jobs out to whoever follows them."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from random import Random

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from actors.contracts.events import NotAnEvent, Outcome, Record, ReviewDiscarded, ReviewRedriven
from actors.contracts.subjects import is_job
from actors.contracts.view import kind_for_readers
from actors.http.attendance import Attendance, Seat
from actors.http.caller import Owned, caller_of
from actors.http.head import Head
from actors.http.problem import BAD_OPTION, BAD_PLACE, Refusal, answer_with_problems, unknown_job
from actors.http.stream import EventStream
from actors.journal import Journal, Unanswered
from actors.journal.connection import ApiError
from actors.journal.follow import Follower, Place
from actors.journal.journal import PatientJournal
from actors.journal.mailbox import Item
from actors.runtime.cancel import cancel
from actors.runtime.flags import STREAM_LIFE_S
from actors.runtime.job_log import JobLog
from actors.runtime.presence import Owners
from actors.runtime.settings import Settings
from actors.runtime.writer import utc_now

log = logging.getLogger(__name__)

OPEN_S = 1.0
"""How long a reader waits for the log before it is told to come back."""

RETRY_MS = (300, 1_500)
"""Between which a reader is told to wait before it resumes, so that not all of them return at once."""

GRACE_S = 5.0
"""How long a reader that a job depends on may be away before the job is cancelled."""

READER_LEFT = "its reader went away"
AGAIN_S = 1.0

_PLACE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,18}))?")


def results(
    settings: Settings, *, stream_life: float = STREAM_LIFE_S, grace: float = GRACE_S, rng: Random | None = None
) -> Starlette:
    """The application, for the route `/v1/events`. It finds the path below that, as Serve and mounts give it."""
    actor = Results(settings, stream_life=stream_life, grace=grace, rng=rng or Random())
    app = Starlette(routes=[Route("/{id}", actor.events)], lifespan=actor.running)
    app.router.redirect_slashes = False
    answer_with_problems(app)
    app.add_middleware(Head)
    return app


class Results:
    """Follows jobs for readers: one live subscription per watched job, however many read it."""

    def __init__(self, settings: Settings, *, stream_life: float, grace: float, rng: Random) -> None:
        me = secrets.token_hex(4)
        self._name = f"events/{me}"
        self._log = PatientJournal(settings.nats_urls, f"events-{me}")
        self._stream_life = stream_life
        self._rng = rng
        self._follower: Follower | None = None
        self._attendance: Attendance[Owned] = Attendance(self._cancel, grace=grace)

    @asynccontextmanager
    async def running(self, _: Starlette) -> AsyncIterator[None]:
        """The lifespan of the application."""
        async with self._log:
            yield
            await self._attendance.close()

    async def events(self, request: Request) -> Response:
        """The events of a job after the reader's place, as they come; 204 when the reader has seen the outcome.

        With `cancel_on_disconnect`, the job is cancelled when the reader goes away before that and stays away. One that
        resumes while the log cannot be reached is told nothing until it can, and then to come again: a browser would
        take a 503 for the end.
        """
        try:
            return await self._followed(request)
        except (Unanswered, ApiError):
            if "Last-Event-ID" not in request.headers:
                raise
            return self._stream(nullcontext(self._once_connected()))

    async def _followed(self, request: Request) -> Response:
        id, place, bound = request.path_params["id"], _place(request), _is_bound(request)
        if not is_job(id):
            raise unknown_job(id)
        journal = await self._log.connected(OPEN_S)
        job = Owned(await caller_of(request).owner(journal.reader, id), id)
        last = await journal.reader.last(*job)  # of the leader: a replica that lags may not know the job yet
        if last is None:
            raise unknown_job(id)
        if await _is_past(journal, job, last, place):
            return Response(status_code=204, headers={"Cache-Control": "no-store"})
        seat = Seat()
        frames = self._frames(self._follows(journal), job, place, seat if bound else None)
        return self._stream(frames, left=seat.leave)

    def _stream(
        self, frames: AbstractAsyncContextManager[AsyncIterator[bytes]], *, left: Callable[[], None] = lambda: None
    ) -> EventStream:
        return EventStream(frames, life=self._stream_life, retry_ms=self._rng.randint(*RETRY_MS), left=left)

    async def _once_connected(self) -> AsyncIterator[bytes]:
        """A comment, once the log can be reached."""
        await self._log.connected(2 * self._stream_life)  # the stream's life ends it before
        yield b": the log is there again\n\n"

    def _follows(self, journal: Journal) -> Follower:
        if self._follower is None:
            self._follower = Follower(journal.live, journal.reader)
        return self._follower

    @asynccontextmanager
    async def _frames(
        self, follower: Follower, job: Owned, place: Place, seat: Seat | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        attending = self._attendance.taken(seat, job) if seat else nullcontext()
        async with follower.follow(*job, place) as items:
            with attending:
                yield (_frame(item) async for item in items)

    async def _cancel(self, job: Owned) -> None:
        """Stop a job whose reader has gone, however long it takes to reach its log."""
        while True:
            try:
                journal = await self._log.opened(AGAIN_S)
                record = JobLog(journal, *job, by=self._name, now=utc_now)
                await record.read()
                await cancel(record, Owners(journal.signals), READER_LEFT)
                return
            except Unanswered as error:
                log.info("cannot cancel yet", extra={"action": "cancel_retry", "job": job.job, "reason": str(error)})
            await asyncio.sleep(AGAIN_S)


def _frame(item: Item) -> bytes:
    return f"id: {item.n}.{item.seq}\nevent: {kind_for_readers(item.event)}\ndata: {item.json}\n\n".encode()


def _place(request: Request) -> Place:
    """How far the reader has read. What it says when it resumes is newer than what its URL says. Raises Refusal."""
    said = request.headers.get("Last-Event-ID") or request.query_params.get("after")
    if not said:
        return Place()
    if found := _PLACE.fullmatch(said):
        return Place(int(found[1]), int(found[2] or 0))
    raise Refusal(
        BAD_PLACE, "Send the `id:` of the last event you have seen as Last-Event-ID, or its number as ?after=, or none."
    )


def _is_bound(request: Request) -> bool:
    """Whether the job is to be cancelled when this reader goes away. Raises Refusal."""
    match request.query_params.get("cancel_on_disconnect", "false"):
        case "true":
            return True
        case "false":
            return False
    raise Refusal(BAD_OPTION, "Say ?cancel_on_disconnect=true, or =false, or leave it out.")


async def _is_past(journal: Journal, job: Owned, last: Record, place: Place) -> bool:
    """Whether the reader has seen the outcome, which only `review.*` may follow."""
    try:
        event = last.event
    except NotAnEvent:
        return False  # the follower passes over it
    if isinstance(event, ReviewRedriven | ReviewDiscarded):
        records = await journal.reader.job(*job)
        event = next((r.event for r in records if isinstance(r.event, Outcome)), event)
        return place.n >= event.n
    return isinstance(event, Outcome) and place.n >= event.n
