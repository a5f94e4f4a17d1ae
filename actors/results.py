"""The result actor: it fans the events of jobs out to whoever follows them."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from random import Random
from typing import Any

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from actors.contracts.events import NotAnEvent, Outcome, Record, ReviewDiscarded, ReviewRedriven
from actors.contracts.limits import LIMITS, Limits
from actors.contracts.subjects import is_job
from actors.contracts.view import kind_for_readers
from actors.http import session
from actors.http.attendance import Attendance, Seat
from actors.http.audience import Audience
from actors.http.caller import Owned, caller_of
from actors.http.door import behind_door
from actors.http.head import Head
from actors.http.keyring import Keyring
from actors.http.places import place_of, places_of, written
from actors.http.problem import BAD_OPTION, Refusal, answer_with_problems, unavailable, unknown_job
from actors.http.socket import send_events
from actors.http.stream import EventStream
from actors.journal import Journal, Unanswered
from actors.journal.braid import braided
from actors.journal.connection import ApiError
from actors.journal.follow import Follower, Place
from actors.journal.journal import PatientJournal
from actors.journal.mailbox import Item
from actors.journal.mirror import Mirror
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

MOST_JOBS = 50
"""How many jobs one stream may have: each event's id says how far the reader is in each of them."""


def results(
    settings: Settings, *, stream_life: float = STREAM_LIFE_S, grace: float = GRACE_S, rng: Random | None = None
) -> Starlette:
    """The application, for the route `/v1/events`. It finds the path below that, as Serve and mounts give it."""
    actor = Results(settings, stream_life=stream_life, grace=grace, rng=rng or Random())
    routes = [
        _bare(actor.several),
        Route("/{id}", actor.events),
        Route("/{id}/session", actor.session, methods=["POST"]),
        WebSocketRoute("/{id}/ws", actor.socket),
    ]
    app = Starlette(routes=routes, lifespan=actor.running)
    app.router.redirect_slashes = False
    behind_door(app, actor.keyring, settings.origins, lambda _: Refusal.answer)
    answer_with_problems(app)
    app.add_middleware(Head)
    return app


class Results:
    """Follows jobs for readers: one live subscription per watched job, however many read it."""

    def __init__(self, settings: Settings, *, stream_life: float, grace: float, rng: Random) -> None:
        me = secrets.token_hex(4)
        self._name = f"events/{me}"
        self._log = PatientJournal(settings.nats_urls, f"events-{me}")
        self.keyring = Keyring(is_loopback=settings.is_loopback, now=utc_now)
        self._stream_life = stream_life
        self._rng = rng
        self._follower: Follower | None = None
        self._limits = Mirror(LIMITS, Limits)
        self._audience = Audience(self._limits)
        self._attendance: Attendance[Owned] = Attendance(self._cancel, grace=grace)

    @asynccontextmanager
    async def running(self, _: Starlette) -> AsyncIterator[None]:
        """The lifespan of the application."""
        async with self._log, self.keyring.following(self._log), self._limits.following(self._log):
            yield
            await self._attendance.close()

    async def events(self, request: Request) -> Response:
        """The events of a job after the reader's place, as they come; 204 when the reader has seen the outcome.

        With `cancel_on_disconnect`, the job is cancelled when the reader goes away before that and stays away. One that
        resumes while the log cannot be reached is told nothing until it can, and then to come again: a browser would
        take a 503 for the end.
        """
        return await self._resumed(request, self._followed(request))

    async def several(self, request: Request) -> Response:
        """The same of the jobs that `jobs` names, on one stream, which ends once all of them have.

        A job that the reader has begun to read and that is not kept any more is `gone`.
        """
        return await self._resumed(request, self._braided(request))

    async def socket(self, socket: WebSocket) -> None:
        """The events of a job on a WebSocket: each message has the `id`, the `event` and the `data` of one."""
        try:
            place, job, journal, last = await self._found(socket)
            self._audience.must_have_room(caller_of(socket), returning=place.n > 0)
        except Refusal as refusal:
            await socket.send_denial_response(refusal.answer())
            return
        except (Unanswered, ApiError) as error:
            await socket.send_denial_response(unavailable(error).answer())
            return
        is_past = await _is_past(journal, job, last, place)
        messages = nullcontext(_nothing()) if is_past else self._messages(self._follows(journal), job, place)
        await send_events(socket, self._audience.placed(caller_of(socket), messages), life=self._stream_life)

    async def _resumed(self, request: Request, answer: Coroutine[Any, Any, Response]) -> Response:
        try:
            return await answer
        except (Unanswered, ApiError):
            if "Last-Event-ID" not in request.headers:
                raise
            return self._stream(request, nullcontext(self._once_connected()))

    async def _found(self, request: HTTPConnection) -> tuple[Place, Owned, Journal, Record]:
        """How far the reader is, in which job, and the last that is stored of that. Raises Refusal or Unanswered."""
        id, place = request.path_params["id"], place_of(request)
        if not is_job(id):
            raise unknown_job(id)
        journal = await self._log.connected(OPEN_S)
        job = Owned(await caller_of(request).owner(journal.reader, id), id)
        last = await journal.reader.last(*job)  # of the leader: a replica that lags may not know the job yet
        if last is None:
            raise unknown_job(id)
        return place, job, journal, last

    async def _followed(self, request: Request) -> Response:
        bound = _is_bound(request)
        place, job, journal, last = await self._found(request)
        if await _is_past(journal, job, last, place):
            return _over()
        seat = Seat()
        frames = self._frames(self._follows(journal), job, place, seat if bound else None)
        return self._stream(request, frames, left=seat.leave)

    async def _braided(self, request: Request) -> Response:
        ids = _jobs(request)
        places = dict(zip(ids, places_of(request, ids), strict=True))
        journal = await self._log.connected(OPEN_S)
        caller, gone, open_jobs = caller_of(request), [], {}
        for id, place in places.items():
            job = Owned(await caller.owner(journal.reader, id), id)
            last = await journal.reader.last(*job)
            if last is None and not place.n:
                raise unknown_job(id)
            if last is None:
                gone.append(id)
            elif not await _is_past(journal, job, last, place):
                open_jobs[job] = place
        if not open_jobs:
            return _over()
        return self._stream(request, _braid(self._follows(journal), places, open_jobs, gone))

    def _stream(
        self,
        request: Request,
        frames: AbstractAsyncContextManager[AsyncIterator[bytes]],
        *,
        left: Callable[[], None] = lambda: None,
    ) -> EventStream:
        """Raises Refusal when the caller has no place left."""
        caller = caller_of(request)
        self._audience.must_have_room(caller, returning="Last-Event-ID" in request.headers)
        placed, retry_ms = self._audience.placed(caller, frames), self._rng.randint(*RETRY_MS)
        return EventStream(placed, life=self._stream_life, retry_ms=retry_ms, left=left)

    async def _once_connected(self) -> AsyncIterator[bytes]:
        """A comment, once the log can be reached."""
        await self._log.connected(2 * self._stream_life)  # the stream's life ends it before
        yield b": the log is there again\n\n"

    async def session(self, request: Request) -> Response:
        """Let a browser read the events of a job without a key, by a cookie, for an hour."""
        id = request.path_params["id"]
        if not is_job(id):
            raise unknown_job(id)
        journal = await self._log.connected(OPEN_S)
        if await journal.reader.last(await caller_of(request).owner(journal.reader, id), id) is None:
            raise unknown_job(id)
        return session.begin(request, self.keyring, id)

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

    @asynccontextmanager
    async def _messages(self, follower: Follower, job: Owned, place: Place) -> AsyncIterator[AsyncIterator[str]]:
        async with follower.follow(*job, place) as items:
            yield (_message(item) async for item in items)

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


def _message(item: Item) -> str:
    return f'{{"id":"{item.n}.{item.seq}","event":"{kind_for_readers(item.event)}","data":{item.json}}}'


@asynccontextmanager
async def _braid(
    follower: Follower, places: dict[str, Place], jobs: dict[Owned, Place], gone: list[str]
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The frames of several jobs. Each has the place in all of them for its id, and names its job in its data."""
    read = dict(places)

    async def frames() -> AsyncIterator[bytes]:
        for id in gone:
            yield f'event: gone\ndata: {{"job":"{id}"}}\n\n'.encode()
        async for job, item in items:
            read[job.job] = Place(item.n, item.seq)
            data = f'{{"job":"{job.job}",{item.json[1:]}'
            kind = kind_for_readers(item.event)
            yield f"id: {written(read.values())}\nevent: {kind}\ndata: {data}\n\n".encode()

    async with braided(follower, jobs) as items:
        yield frames()


def _bare(endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
    """A route for where the application is mounted itself, without anything after it."""
    route = Route("/", endpoint, methods=["GET"])
    route.path_regex = re.compile("^$")
    return route


def _over() -> Response:
    """The outcome was seen: a browser that gets this does not come back."""
    return Response(status_code=204, headers={"Cache-Control": "no-store"})


async def _nothing() -> AsyncIterator[str]:
    return
    yield


def _jobs(request: Request) -> list[str]:
    """Which jobs are asked for. Raises Refusal."""
    ids = list(dict.fromkeys(request.query_params.get("jobs", "").split(",")))
    if ids == [""] or len(ids) > MOST_JOBS:
        raise Refusal(BAD_OPTION, f"Say ?jobs=<id>,<id>… with up to {MOST_JOBS} ids; one job has /v1/events/<id>.")
    if "cancel_on_disconnect" in request.query_params:
        raise Refusal(BAD_OPTION, "Only a stream of one job can be what that job is for: /v1/events/<id>.")
    if unfit := next((id for id in ids if not is_job(id)), None):
        raise unknown_job(unfit)
    return ids


def _is_bound(request: Request) -> bool:
    """Whether the job is to be cancelled when this reader goes away. Raises Refusal."""
    match request.query_params.get("cancel_on_disconnect", "false"):
        case "true":
            caller_of(request).must_do_more_than_read()
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
