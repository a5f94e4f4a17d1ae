"""Headrace, for a program without asyncio: the same client, on calls that block."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from random import Random
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, cast, overload

import httpx
from pydantic import BaseModel

from actors.client.courier import DEFAULT_URL
from actors.client.headrace import AsyncHeadrace
from actors.client.patience import PATIENT, Patience
from actors.client.wish import Input, Terms
from actors.replies import (
    Accepted,
    DeadLetter,
    DeadLetterSummary,
    Delivery,
    Event,
    Job,
    JobSummary,
    LogEntry,
    NewWebhook,
    PipelineReport,
    StageReport,
    Webhook,
    WebhookSecret,
)

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class Headrace:
    """The same client for programs without asyncio; a context manager. What AsyncHeadrace promises holds here too."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        patience: Patience = PATIENT,
        sleep: Callable[[float], None] = time.sleep,
        rng: Random | None = None,
    ) -> None:
        async def block(seconds: float) -> None:
            sleep(seconds)

        self._client = AsyncHeadrace(
            url, api_key=api_key, patience=patience, transport=_Blocking(), sleep=block, rng=rng
        )
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

    @overload
    def submit(self, pipeline: str, input: Input, *, wait: None = None, **terms: Unpack[Terms]) -> Accepted: ...

    @overload
    def submit(self, pipeline: str, input: Input, *, wait: int, **terms: Unpack[Terms]) -> Job: ...

    def submit(self, pipeline: str, input: Input, *, wait: int | None = None, **terms: Unpack[Terms]) -> Accepted:
        """Submit a job on these `Terms`. It is stored when this returns; see `AsyncHeadrace.submit`."""
        if wait is None:
            return _now(self._client.submit(pipeline, input, **terms))
        return _now(self._client.submit(pipeline, input, wait=wait, **terms))

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

    @overload
    def result(self, id: str) -> dict[str, Any]: ...

    @overload
    def result(self, id: str, answer: type[M]) -> M: ...

    def result(self, id: str, answer: type[M] | None = None) -> dict[str, Any] | M:
        """The job's answer, once it is there, as this message or as JSON; see `AsyncHeadrace.result`."""
        if answer is None:
            return _now(self._client.result(id))
        return _now(self._client.result(id, answer))

    def log(self, id: str, *, after: int = 0) -> Iterator[LogEntry]:
        """All that is stored of the job by now; see `AsyncHeadrace.log`."""
        return _each(self._client.log(id, after=after))

    def jobs(
        self,
        *,
        status: str | None = None,
        pipeline: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[JobSummary]:
        """Jobs, the newest first; see `AsyncHeadrace.jobs`."""
        return _each(self._client.jobs(status=status, pipeline=pipeline, since=since, until=until))

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

    def webhooks(self) -> tuple[Webhook, ...]:
        """Where the tenant is told of what happens to its jobs, the oldest first."""
        return _now(self._client.webhooks())

    def create_webhook(
        self, url: str, *, events: Iterable[str] | None = None, description: str | None = None
    ) -> NewWebhook:
        """Be told at `url` of what happens from now on; see `AsyncHeadrace.create_webhook`."""
        return _now(self._client.create_webhook(url, events=events, description=description))

    def change_webhook(
        self,
        id: str,
        *,
        url: str | None = None,
        events: Iterable[str] | None = None,
        description: str | None = None,
        disabled: bool | None = None,
    ) -> Webhook:
        """Change what is named; while it is `disabled` nothing is sent to it."""
        changing = self._client.change_webhook(id, url=url, events=events, description=description, disabled=disabled)
        return _now(changing)

    def delete_webhook(self, id: str) -> Webhook:
        """Take it away; what is on its way to it ends."""
        return _now(self._client.delete_webhook(id))

    def rotate_webhook(self, id: str) -> WebhookSecret:
        """Sign with a new secret, and for a day with the old one too."""
        return _now(self._client.rotate_webhook(id))

    def webhook_secret(self, *, rotate: bool = False) -> WebhookSecret:
        """What signs for the webhooks that jobs have named; see `AsyncHeadrace.webhook_secret`."""
        return _now(self._client.webhook_secret(rotate=rotate))

    def test_webhook(self, id: str) -> Delivery:
        """Send it `webhook.test`; what came of that stands in its deliveries."""
        return _now(self._client.test_webhook(id))

    def deliveries(self, id: str, *, status: str | None = None) -> Iterator[Delivery]:
        """What was sent to a webhook; see `AsyncHeadrace.deliveries`."""
        return _each(self._client.deliveries(id, status=status))

    def replay(self, id: str, delivery: str) -> Delivery:
        """Send a delivery again, from the first attempt on, under the same id."""
        return _now(self._client.replay(id, delivery))

    def pipelines(self) -> tuple[PipelineReport, ...]:
        """The pipelines that take jobs."""
        return _now(self._client.pipelines())

    def stages(self) -> tuple[StageReport, ...]:
        """Every stage: its lag and its replicas."""
        return _now(self._client.stages())

    def events(self, id: str, *, after: int = 0, cancel_on_disconnect: bool = False) -> Iterator[Event]:
        """The job's events after number `after`, each exactly once and in order; see `AsyncHeadrace.events`."""
        return _each(self._client.events(id, after=after, cancel_on_disconnect=cancel_on_disconnect))

    def events_of(self, ids: Sequence[str]) -> Iterator[tuple[str, Event]]:
        """The events of several jobs, each with its job's id, to the last outcome; see `AsyncHeadrace.events_of`."""
        return _each(self._client.events_of(ids))


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
