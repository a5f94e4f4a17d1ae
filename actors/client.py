"""The client: this is how a program submits jobs, reads their events and waits for their answers."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random, SystemRandom
from types import TracebackType
from typing import Any, Self, TypeVar, cast
from urllib.parse import quote

import httpx
from httpx_sse import ServerSentEvent, SSEError, aconnect_sse
from pydantic import BaseModel, TypeAdapter, ValidationError

from actors.contracts.errors import HeadraceError
from actors.contracts.subjects import Lane, new_key
from actors.replies import (
    Accepted,
    DeadLetter,
    DeadLetterPage,
    DeadLetterSummary,
    Event,
    Job,
    Outcome,
    PipelineReport,
    Problem,
    StageReport,
    event_of,
)

T = TypeVar("T")
Input = Mapping[str, object] | BaseModel
"""What a pipeline takes: a message of its input type, or the JSON object of one."""

DEFAULT_URL = "http://127.0.0.1:8000"
SILENCE = 60.0
"""Seconds after which a stream that brings nothing, not even a heartbeat, is taken to be cut."""
NOT_NOW = frozenset({429, 502, 503, 504})
"""The statuses that say: the same request again, later."""

log = logging.getLogger(__name__)


class ClientError(HeadraceError):
    """The server could not be asked, or did not do what it was asked for."""


class BadRequest(ClientError):
    """This cannot be sent at all: the message says what to change."""


class Refused(ClientError):
    """The server says no, and would say no again: `problem` says why."""

    def __init__(self, problem: Problem, message: str = "") -> None:
        super().__init__(message or str(problem))
        self.problem = problem


class NotFound(Refused):
    """There is no such job or pipeline."""


class Unavailable(Refused):
    """The server says not now, and said so until patience ran out; the same again, later, is right.

    `retry_after` is the seconds it asked for last. `key`, after a submit, is the Idempotency-Key with which submitting
    again makes no second job.
    """

    def __init__(self, problem: Problem, *, retry_after: float | None = None, key: str | None = None) -> None:
        later = f"in {retry_after:g} s" if retry_after is not None else "later"
        super().__init__(problem, f"{problem} ({problem.status}); try again {later}{_with(key)}")
        self.retry_after = retry_after
        self.key = key


class Unreachable(ClientError):
    """Nothing answers, or the connection broke. `key` as in Unavailable: what was submitted may be stored."""

    def __init__(self, url: str, error: Exception, *, key: str | None = None) -> None:
        why = str(error) or type(error).__name__
        super().__init__(
            f"no answer from {url}: {why}; is the server running there? `headrace up` starts one.{_again(key)}"
        )
        self.url = url
        self.key = key


class Unintelligible(ClientError):
    """Something answers, but not as Headrace does: another server, or another version."""


class NothingAsked(HeadraceError):
    """There is nothing to answer: `job` says how it stands."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} asks nothing; it is {job.status.replace('_', ' ')}")
        self.job = job


class NotCompleted(HeadraceError):
    """The job ended without an answer; `job` says how, and what it said on the way."""

    def __init__(self, job: Job) -> None:
        where = f" in {job.stage}" if job.stage else ""
        why = f": {job.error}" if job.error else ""
        super().__init__(f"job {job.id} ended {job.status.replace('_', ' ')}{where}{why}")
        self.job = job


def _with(key: str | None) -> str:
    return f" with the key {key}, which makes no second job" if key else ""


def _again(key: str | None) -> str:
    return f" The job may be stored: submit it again{_with(key)}" if key else ""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client keeps trying, and how politely.

    It gives up after `tries` failures in a row, or when it is asked to wait longer than `longest_asked`. Between two
    tries it waits `first` seconds, then twice as long each time up to `longest`, less up to half of it at random; that
    comes on top of what the server asks for (Retry-After, `retry:`), so that not all it told the same return at once.
    """

    tries: int = 8
    first: float = 0.25
    longest: float = 8.0
    longest_asked: float = 60.0

    def gives_up(self, failures: int, *, asked: float | None = None) -> bool:
        """Whether the `failures`-th failure in a row (from 1) is the last."""
        return failures >= self.tries or (asked or 0.0) > self.longest_asked

    def delay(self, failures: int, rng: Random, *, asked: float | None = None) -> float:
        """Seconds to wait after the `failures`-th failure in a row."""
        ceiling = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return (asked or 0.0) + rng.uniform(ceiling / 2, ceiling)


PATIENT = Patience()


@dataclass(slots=True)
class _Place:
    """How far a reader has read: through the event number `n`, which `id` names once the server has said it.

    `bound` says that the job is cancelled when the reader goes away. `quiet` counts the connections in a row that
    brought no event, `refused` those that were not even opened; `retry` is how many seconds the server wants between
    two.
    """

    n: int
    bound: bool = False
    id: str = ""
    quiet: int = 0
    refused: int = 0
    retry: float | None = None

    @property
    def params(self) -> dict[str, str]:
        after = {} if self.id or not self.n else {"after": str(self.n)}
        return after | ({"cancel_on_disconnect": "true"} if self.bound else {})

    @property
    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self.id} if self.id else {}

    def take(self, sent: ServerSentEvent) -> Event | None:
        """The event, unless it was read before or there is none in it (a heartbeat, a bare `retry:`)."""
        if sent.retry is not None:
            self.retry = sent.retry / 1000
        if not sent.data:
            return None
        try:
            event = event_of(sent.event, sent.id, json.loads(sent.data))
        except (ValueError, TypeError) as error:
            raise Unintelligible(f"an event of kind {sent.event!r} is none that this version understands") from error
        if event.n <= self.n:
            return None
        self.n, self.id, self.quiet = event.n, sent.id, 0
        return event


@dataclass(frozen=True, slots=True)
class _Wish:
    """A request with a body that may be sent again as it is; `key` names it where the server needs that."""

    body: bytes
    key: str | None = None

    @classmethod
    def of(cls, **said: object) -> _Wish:
        """Raises BadRequest when there is no JSON for it."""
        return _Wish(_json({name: value for name, value in said.items() if value is not None}))

    @property
    def headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json"} | ({"Idempotency-Key": self.key} if self.key else {})


@dataclass(frozen=True, slots=True)
class _Submission:
    """A job to be, as it goes over the wire; the same bytes and the same key however often it is sent."""

    path: str
    wish: _Wish

    @classmethod
    def of(
        cls,
        pipeline: str,
        input: Input,
        *,
        key: str | None,
        lane: Lane | None,
        deadline: int | None,
        start_after: int | datetime | None,
        metadata: Mapping[str, str] | None,
    ) -> Self:
        """Raises BadRequest when there is no JSON for it."""
        wanted = {
            "input": _body(input),
            "lane": lane,
            "deadline": deadline,
            "start_after": _start(start_after),
            "metadata": dict(metadata or {}) or None,
        }
        if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key and key):
            raise BadRequest(f"the key {key!r} cannot stand in a header; take printable ASCII without spaces around it")
        wish = replace(_Wish.of(**wanted), key=key or new_key())
        return cls(f"/v1/pipelines/{quote(pipeline, safe='')}/jobs", wish)


class AsyncHeadrace:
    """A client for asyncio. An async context manager; safe to share between tasks of one loop.

    Every request is tried again while the server cannot be reached or says "not now" (429, 503), as long as `patience`
    lasts; the Retry-After it is given is waited out. Raises Refused (NotFound, Unavailable), Unreachable or
    Unintelligible, all of them ClientError. `transport`, `sleep` and `rng` stand in for the network, time and chance.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        patience: Patience = PATIENT,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: Random | None = None,
    ) -> None:
        self.url = _base(url)
        self._patience = patience
        self._sleep = sleep
        self._rng = rng or SystemRandom()
        # Every open stream holds a connection, so there is no limit to them.
        self._http = httpx.AsyncClient(
            base_url=self.url,
            timeout=httpx.Timeout(30.0, connect=5.0),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. What was submitted goes on."""
        await self._http.aclose()

    async def submit(
        self,
        pipeline: str,
        input: Input,
        *,
        key: str | None = None,
        lane: Lane | None = None,
        deadline: int | None = None,
        start_after: int | datetime | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Accepted:
        """Submit a job. It is stored when this returns.

        The Idempotency-Key `key` makes it the same job however often it is submitted; without one, a random key makes
        at least this call's own retries harmless. `deadline` is in whole seconds from acceptance. It begins at once, or
        not before `start_after`: so many seconds from acceptance, or a time with its timezone.
        """
        submission = _Submission.of(
            pipeline, input, key=key, lane=lane, deadline=deadline, start_after=start_after, metadata=metadata
        )
        return _read(Accepted, await self._ask("POST", submission.path, submission.wish))

    async def job(self, id: str) -> Job:
        """The job as it stands."""
        return _read(Job, await self._ask("GET", f"/v1/jobs/{quote(id, safe='')}"))

    async def cancel(self, id: str, *, reason: str | None = None) -> Job:
        """Stop the job; doing it again is harmless. It has its outcome when this returns, or is `cancelling`."""
        return _read(Job, await self._ask("POST", f"/v1/jobs/{quote(id, safe='')}/cancel", _Wish.of(reason=reason)))

    async def answer(self, id: str, answer: object, *, question: int | None = None) -> Job:
        """Answer what the job asks; doing it again is harmless. It goes on when this returns.

        `answer` is a message, or JSON, that fits what the question expects. `question` says which question is meant, by
        its `id`; where that is not said, the one that is asked now. Raises Refused when it was settled otherwise, and
        NothingAsked when the job asks nothing.
        """
        if question is None:
            job = await self.job(id)
            if job.question is None:
                raise NothingAsked(job)
            question = job.question.id
        body = answer.model_dump(mode="json") if isinstance(answer, BaseModel) else answer
        wish = _Wish(_json({"question": question, "answer": body}))
        return _read(Job, await self._ask("POST", f"/v1/jobs/{quote(id, safe='')}/input", wish))

    async def wait(self, id: str) -> Job:
        """The job once it has its outcome, whatever that is."""
        job = await self.job(id)
        if not job.ended:
            async for _ in self.events(id):
                pass
            job = await self.job(id)
        return job

    async def result(self, id: str) -> dict[str, Any]:
        """The job's answer, once it is there. Raises NotCompleted when the job ends without one."""
        job = await self.wait(id)
        if job.answer is None:
            raise NotCompleted(job)
        return job.answer

    async def dead_letters(
        self, *, pipeline: str | None = None, stage: str | None = None
    ) -> AsyncGenerator[DeadLetterSummary, None]:
        """The jobs that used up their budget, the oldest first, as they are asked for page by page."""
        asked = {name: value for name, value in (("pipeline", pipeline), ("stage", stage)) if value is not None}
        while True:
            page = _read(DeadLetterPage, await self._ask("GET", "/v1/dead-letters", params=asked))
            for letter in page.dead_letters:
                yield letter
            if page.next is None:
                return
            asked["cursor"] = page.next

    async def dead_letter(self, id: str) -> DeadLetter:
        """A dead letter, whole: its input, its errors, and what happened to its job."""
        return _read(DeadLetter, await self._ask("GET", _dead_letter(id)))

    async def redrive(self, id: str, *, input: Input | None = None, number: int | None = None) -> Accepted:
        """Make a new job of a dead letter, from the stage that failed, with the same input or this one.

        `number` says which redrive of it is meant, from 1; the next, where that is not said. Two callers who mean the
        same one make one job. Raises Refused when it was discarded.
        """
        if number is None:
            number = len((await self.dead_letter(id)).redriven) + 1
        wish = _Wish.of(number=number, input=None if input is None else _body(input))
        return _read(Accepted, await self._ask("POST", f"{_dead_letter(id)}/redrive", wish))

    async def discard(self, id: str, *, reason: str) -> DeadLetter:
        """Let a dead letter be, for good; doing it again is harmless, and the first reason stays."""
        return _read(DeadLetter, await self._ask("POST", f"{_dead_letter(id)}/discard", _Wish.of(reason=reason)))

    async def pipelines(self) -> tuple[PipelineReport, ...]:
        """The pipelines that take jobs."""
        return _read(_Pipelines, await self._ask("GET", "/v1/pipelines")).pipelines

    async def stages(self) -> tuple[StageReport, ...]:
        """Every stage: its lag and its replicas."""
        return _read(_Stages, await self._ask("GET", "/v1/stages")).stages

    async def events(
        self, id: str, *, after: int = 0, cancel_on_disconnect: bool = False
    ) -> AsyncGenerator[Event, None]:
        """The job's events after number `after`, each exactly once and in order, to the outcome.

        A stream that is cut, or that the server ends before the outcome, is resumed where it was; what comes twice is
        passed over. Waits as long as the job takes. What is no longer kept is one `Gap`. A read past the outcome ends
        at once. With `cancel_on_disconnect`, leaving before the outcome cancels the job some seconds later. Raises as
        all requests do, Unreachable only after `patience` connections in a row could not be opened.
        """
        place = _Place(after, cancel_on_disconnect)
        while True:
            try:
                async with self._stream(id, place) as stream:
                    if stream is None:
                        return
                    async for sent in stream:
                        event = place.take(sent)
                        if event is not None:
                            yield event
                        if isinstance(event, Outcome):
                            return
                trouble: ClientError | None = None
            except SSEError as error:
                raise Unintelligible(f"{self.url} does not stream events; is this Headrace's URL?") from error
            except httpx.TransportError as error:
                trouble = Unreachable(str(self.url), error)
            except Unavailable as error:
                trouble = error
            except Unintelligible as error:
                if not place.n:
                    raise
                trouble = error  # it was Headrace: a proxy that has just started does not know it yet
            await self._resume(id, place, trouble)

    @asynccontextmanager
    async def _stream(self, id: str, place: _Place) -> AsyncIterator[AsyncIterator[ServerSentEvent] | None]:
        """One connection of a reader; None when it is past the outcome."""
        place.quiet += 1
        place.refused += 1
        async with aconnect_sse(
            self._http,
            "GET",
            f"/v1/events/{quote(id, safe='')}",
            params=place.params,
            headers=place.headers,
            timeout=httpx.Timeout(SILENCE, connect=5.0),
        ) as source:
            if source.response.status_code == 204:
                yield None
                return
            if source.response.status_code != 200:
                await source.response.aread()
                raise _refusal(source.response)
            place.refused = 0
            async with aclosing(source.aiter_sse()) as stream:
                yield stream

    async def _resume(self, id: str, place: _Place, trouble: ClientError | None) -> None:
        """Wait before the next connection, or raise `trouble` when there have been enough."""
        asked = trouble.retry_after if isinstance(trouble, Unavailable) else None
        if trouble and self._patience.gives_up(place.refused, asked=asked):
            raise trouble
        if trouble and place.refused <= 1:
            log.warning("stream cut, resuming", extra={"action": "stream.resume", "job": id, "why": str(trouble)})
        await self._sleep(self._patience.delay(max(place.quiet, 1), self._rng, asked=asked or place.retry))

    async def _ask(
        self, method: str, path: str, wish: _Wish | None = None, params: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send a request until it is answered with a success, as `patience` allows."""
        body, headers, key = (wish.body, wish.headers, wish.key) if wish else (None, None, None)
        failures = 0
        while True:
            asked: float | None = None
            trouble: ClientError
            try:
                response = await self._http.request(method, path, content=body, headers=headers, params=params)
                if response.is_success:
                    return response
                raise _refusal(response, key)
            except httpx.TransportError as error:
                trouble = Unreachable(str(self.url), error, key=key)
            except Unavailable as error:
                trouble, asked = error, error.retry_after
            failures += 1
            if self._patience.gives_up(failures, asked=asked):
                raise trouble
            log.info("trying again", extra={"action": "request.retry", "path": path, "why": str(trouble)})
            await self._sleep(self._patience.delay(failures, self._rng, asked=asked))


class Headrace:
    """The same client for programs without asyncio; a context manager. What AsyncHeadrace promises holds here too."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        patience: Patience = PATIENT,
        sleep: Callable[[float], None] = time.sleep,
        rng: Random | None = None,
    ) -> None:
        async def block(seconds: float) -> None:
            sleep(seconds)

        self._client = AsyncHeadrace(url, patience=patience, transport=_Blocking(), sleep=block, rng=rng)
        self.url = self._client.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. What was submitted goes on."""
        _now(self._client.aclose())

    def submit(
        self,
        pipeline: str,
        input: Input,
        *,
        key: str | None = None,
        lane: Lane | None = None,
        deadline: int | None = None,
        start_after: int | datetime | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Accepted:
        """Submit a job. It is stored when this returns; see `AsyncHeadrace.submit`."""
        return _now(
            self._client.submit(
                pipeline, input, key=key, lane=lane, deadline=deadline, start_after=start_after, metadata=metadata
            )
        )

    def job(self, id: str) -> Job:
        """The job as it stands."""
        return _now(self._client.job(id))

    def cancel(self, id: str, *, reason: str | None = None) -> Job:
        """Stop the job; doing it again is harmless. It has its outcome when this returns, or is `cancelling`."""
        return _now(self._client.cancel(id, reason=reason))

    def answer(self, id: str, answer: object, *, question: int | None = None) -> Job:
        """Answer what the job asks; see `AsyncHeadrace.answer`."""
        return _now(self._client.answer(id, answer, question=question))

    def wait(self, id: str) -> Job:
        """The job once it has its outcome, whatever that is."""
        return _now(self._client.wait(id))

    def result(self, id: str) -> dict[str, Any]:
        """The job's answer, once it is there. Raises NotCompleted when the job ends without one."""
        return _now(self._client.result(id))

    def dead_letters(self, *, pipeline: str | None = None, stage: str | None = None) -> Iterator[DeadLetterSummary]:
        """The jobs that used up their budget, the oldest first, as they are asked for page by page."""
        return _each(self._client.dead_letters(pipeline=pipeline, stage=stage))

    def dead_letter(self, id: str) -> DeadLetter:
        """A dead letter, whole: its input, its errors, and what happened to its job."""
        return _now(self._client.dead_letter(id))

    def redrive(self, id: str, *, input: Input | None = None, number: int | None = None) -> Accepted:
        """Make a new job of a dead letter, from the stage that failed; see `AsyncHeadrace.redrive`."""
        return _now(self._client.redrive(id, input=input, number=number))

    def discard(self, id: str, *, reason: str) -> DeadLetter:
        """Let a dead letter be, for good; doing it again is harmless, and the first reason stays."""
        return _now(self._client.discard(id, reason=reason))

    def pipelines(self) -> tuple[PipelineReport, ...]:
        """The pipelines that take jobs."""
        return _now(self._client.pipelines())

    def stages(self) -> tuple[StageReport, ...]:
        """Every stage: its lag and its replicas."""
        return _now(self._client.stages())

    def events(self, id: str, *, after: int = 0, cancel_on_disconnect: bool = False) -> Iterator[Event]:
        """The job's events after number `after`, each exactly once and in order; see `AsyncHeadrace.events`."""
        return _each(self._client.events(id, after=after, cancel_on_disconnect=cancel_on_disconnect))


class _Blocking(httpx.AsyncBaseTransport):
    """httpx's blocking client in the clothes of the other: no await of it ever suspends."""

    def __init__(self) -> None:
        self._client = httpx.Client(limits=httpx.Limits(max_connections=None, max_keepalive_connections=20))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = self._client.send(request, stream=True)
        stream = _BlockingStream(cast(httpx.SyncByteStream, response.stream))
        return httpx.Response(
            response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
        )

    async def aclose(self) -> None:
        self._client.close()


class _BlockingStream(httpx.AsyncByteStream):
    """The body that goes with `_Blocking`."""

    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._stream:
            yield piece

    async def aclose(self) -> None:
        self._stream.close()


def _now(work: Awaitable[T]) -> T:
    """What an awaitable gives that never suspends; so one body of code serves with asyncio and without."""
    try:
        next(work.__await__())
    except StopIteration as finished:
        return cast(T, finished.value)
    raise AssertionError("a blocking call suspended")


def _each(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """The items of an async generator that never suspends."""
    try:
        while True:
            yield _now(anext(items))
    except StopAsyncIteration:
        return
    finally:
        _now(items.aclose())


class _Pipelines(BaseModel):
    pipelines: tuple[PipelineReport, ...]


class _Stages(BaseModel):
    stages: tuple[StageReport, ...]


def _dead_letter(id: str) -> str:
    return f"/v1/dead-letters/{quote(id, safe='')}"


def _start(start_after: int | datetime | None) -> int | str | None:
    """Raises BadRequest when a time does not say where it is that time."""
    if not isinstance(start_after, datetime):
        return start_after
    if start_after.tzinfo is None:
        raise BadRequest(f"start_after={start_after.isoformat()} has no timezone; datetime.now(UTC) has one")
    return start_after.isoformat()


def _body(input: Input) -> dict[str, Any]:
    return input.model_dump(mode="json") if isinstance(input, BaseModel) else dict(input)


def _json(said: Mapping[str, object]) -> bytes:
    """Raises BadRequest when there is no JSON for it."""
    try:
        return json.dumps(said, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise BadRequest(f"this input is not JSON: {error}") from error


def _base(url: str) -> httpx.URL:
    """Raises BadRequest when `url` is no place to send requests to."""
    try:
        base = httpx.URL(url)
        base.host.encode("idna")
    except (httpx.InvalidURL, UnicodeError) as error:
        raise BadRequest(f"{url!r} is no URL: {error}") from error
    if base.scheme not in ("http", "https") or not base.host:
        raise BadRequest(f"{url!r} is not the URL of a server; it looks like {DEFAULT_URL}")
    return base


def _read(model: type[T], response: httpx.Response) -> T:
    """Raises Unintelligible when the body is something else."""
    try:
        return TypeAdapter(model).validate_json(response.content)
    except ValidationError as error:
        raise Unintelligible(f"{response.url} did not answer as Headrace does; is this its URL?") from error


def _refusal(response: httpx.Response, key: str | None = None) -> ClientError:
    """The error that an answer without success stands for."""
    status = response.status_code
    try:
        problem = Problem.model_validate({**response.json(), "status": status})
    except (ValueError, TypeError):
        # A proxy in between says "not now" in its own words; anything else comes from a stranger.
        if status not in NOT_NOW:
            return Unintelligible(f"{response.url} answered {status}, and not as Headrace does; is this its URL?")
        problem = Problem(status=status, title=response.reason_phrase)
    if status in NOT_NOW:
        return Unavailable(problem, retry_after=_seconds(response.headers.get("Retry-After")), key=key)
    return NotFound(problem) if status == 404 else Refused(problem)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is only sent by caches and is passed over."""
    return float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else None
