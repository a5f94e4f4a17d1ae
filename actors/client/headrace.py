"""Headrace, for a program with asyncio: jobs are submitted, followed, answered, waited for and looked into."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from random import Random, SystemRandom
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload
from urllib.parse import quote

import httpx
from pydantic import BaseModel, RootModel, ValidationError

from actors.client.courier import DEFAULT_URL, Courier
from actors.client.errors import BadRequest, NotCompleted, NothingAsked, Unintelligible
from actors.client.history import read_log
from actors.client.patience import PATIENT, Patience
from actors.client.place import Place, Places
from actors.client.reader import read_on
from actors.client.wish import Input, Terms, Wish, plain
from actors.replies import (
    Accepted,
    DeadLetter,
    DeadLetterPage,
    DeadLetterSummary,
    Delivery,
    DeliveryPage,
    Event,
    Job,
    JobPage,
    JobSummary,
    LogEntry,
    NewWebhook,
    PipelineReport,
    StageReport,
    Webhook,
    WebhookSecret,
)

M = TypeVar("M", bound=BaseModel)

WAIT_S = 60
"""How long one request for an outcome may stay open; then it is asked for again."""


class AsyncHeadrace:
    """A client for asyncio. An async context manager; safe to share between tasks of one loop.

    Every request is tried again while the server cannot be reached or says "not now" (429, 503), as long as `patience`
    lasts; the Retry-After it is given is waited out. Raises Refused (NotFound, Unavailable), Unreachable or
    Unintelligible, all of them ClientError. `api_key` says whose jobs they are, where the server asks for one;
    without it, what HEADRACE_API_KEY says is sent.
    `transport`, `sleep` and `rng` stand in for the network, time and chance.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        patience: Patience = PATIENT,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: Random | None = None,
    ) -> None:
        self._courier = Courier(
            url, api_key=api_key, patience=patience, transport=transport, sleep=sleep, rng=rng or SystemRandom()
        )
        self.url = self._courier.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. What was submitted goes on."""
        await self._courier.aclose()

    @overload
    async def submit(self, pipeline: str, input: Input, *, wait: None = None, **terms: Unpack[Terms]) -> Accepted: ...

    @overload
    async def submit(self, pipeline: str, input: Input, *, wait: int, **terms: Unpack[Terms]) -> Job: ...

    async def submit(self, pipeline: str, input: Input, *, wait: int | None = None, **terms: Unpack[Terms]) -> Accepted:
        """Submit a job on these `Terms`. It is stored when this returns, and goes on whatever becomes of this client.

        With `wait` it returns with the job's outcome, or after so many seconds with the job as it stands then.
        """
        path = f"/v1/pipelines/{quote(pipeline, safe='')}/jobs"
        said = (await self._courier.ask(_Submitted, "POST", path, Wish.job(input, terms), wait=wait)).root
        return said if wait is None or isinstance(said, Job) else await self.job(said.id)

    async def job(self, id: str) -> Job:
        """The job as it stands."""
        return await self._courier.ask(Job, "GET", _job(id))

    async def cancel(self, id: str, *, reason: str | None = None) -> Job:
        """Stop the job; doing it again is harmless. It has its outcome when this returns, or is `cancelling`."""
        return await self._courier.ask(Job, "POST", f"{_job(id)}/cancel", Wish.of(reason=reason))

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
        return await self._courier.ask(Job, "POST", f"{_job(id)}/input", Wish.answering(question, answer))

    async def wait(self, id: str) -> Job:
        """The job once it has its outcome, whatever that is."""
        while not (job := await self._courier.ask(Job, "GET", _job(id), wait=WAIT_S)).ended:
            await self._courier.pause(1)
        return job

    @overload
    async def result(self, id: str) -> dict[str, Any]: ...

    @overload
    async def result(self, id: str, answer: type[M]) -> M: ...

    async def result(self, id: str, answer: type[M] | None = None) -> dict[str, Any] | M:
        """The job's answer, once it is there: as this message, or as the JSON object of one.

        Raises NotCompleted when the job ends without one, and Unintelligible when it is another message.
        """
        job = await self.wait(id)
        if job.answer is None:
            raise NotCompleted(job)
        if answer is None:
            return job.answer
        try:
            return answer.model_validate(job.answer)
        except ValidationError as error:
            raise Unintelligible(f"the answer of job {id} is no {answer.__name__}: {error}") from error

    def log(self, id: str, *, after: int = 0) -> AsyncGenerator[LogEntry, None]:
        """All that is stored of the job by now, after that sequence number: inputs, token ids and digests included."""
        return read_log(self._courier, f"{_job(id)}/log", after)

    def events(self, id: str, *, after: int = 0, cancel_on_disconnect: bool = False) -> AsyncGenerator[Event, None]:
        """The job's events after number `after`, each exactly once and in order, to the outcome.

        A stream that is cut, or that the server ends before the outcome, is resumed where it was; what comes twice is
        passed over. Waits as long as the job takes. What is no longer kept is one `Gap`. A read past the outcome ends
        at once. With `cancel_on_disconnect`, leaving before the outcome cancels the job some seconds later. Raises as
        all requests do, Unreachable only after `patience` connections in a row could not be opened.
        """
        place = Place(after, cancel_on_disconnect)
        return read_on(self._courier, f"/v1/events/{quote(id, safe='')}", place)

    def events_of(self, ids: Sequence[str]) -> AsyncGenerator[tuple[str, Event], None]:
        """The events of up to 50 jobs as they come, each with its job's id, to the last outcome; over one connection.

        The promises are those of `events`, for each job. A job that was forgotten while it was read is one `Gone`.
        """
        if not ids:
            raise BadRequest("name the jobs whose events are to be read")
        return read_on(self._courier, "/v1/events", Places(ids))

    async def jobs(
        self,
        *,
        status: str | None = None,
        pipeline: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncGenerator[JobSummary, None]:
        """Jobs, the newest first, as they are asked for page by page; with one of the statuses, separated by commas."""
        asked = {"status": status, "pipeline": pipeline, "since": _time(since), "until": _time(until), "limit": "200"}
        params = {name: value for name, value in asked.items() if value is not None}
        while True:
            page = await self._courier.ask(JobPage, "GET", "/v1/jobs", params=params)
            for job in page.jobs:
                yield job
            if page.next is None:
                return
            params["cursor"] = page.next

    async def dead_letters(
        self, *, pipeline: str | None = None, stage: str | None = None
    ) -> AsyncGenerator[DeadLetterSummary, None]:
        """The jobs that used up their budget, the oldest first, as they are asked for page by page."""
        asked = {name: value for name, value in (("pipeline", pipeline), ("stage", stage)) if value is not None}
        while True:
            page = await self._courier.ask(DeadLetterPage, "GET", "/v1/dead-letters", params=asked)
            for letter in page.dead_letters:
                yield letter
            if page.next is None:
                return
            asked["cursor"] = page.next

    async def dead_letter(self, id: str) -> DeadLetter:
        """A dead letter, whole: its input, its errors, and what happened to its job."""
        return await self._courier.ask(DeadLetter, "GET", _dead_letter(id))

    async def redrive(self, id: str, *, input: Input | None = None, number: int | None = None) -> Accepted:
        """Make a new job of a dead letter, from the stage that failed, with the same input or this one.

        `number` says which redrive of it is meant, from 1; the next, where that is not said. Two callers who mean the
        same one make one job. Raises Refused when it was discarded.
        """
        if number is None:
            number = len((await self.dead_letter(id)).redriven) + 1
        wish = Wish.of(number=number, input=None if input is None else plain(input))
        return await self._courier.ask(Accepted, "POST", f"{_dead_letter(id)}/redrive", wish)

    async def discard(self, id: str, *, reason: str) -> DeadLetter:
        """Let a dead letter be, for good; doing it again is harmless, and the first reason stays."""
        return await self._courier.ask(DeadLetter, "POST", f"{_dead_letter(id)}/discard", Wish.of(reason=reason))

    async def webhooks(self) -> tuple[Webhook, ...]:
        """Where the tenant is told of what happens to its jobs, the oldest first."""
        return (await self._courier.ask(_Webhooks, "GET", "/v1/webhooks")).webhooks

    async def create_webhook(
        self, url: str, *, events: Iterable[str] | None = None, description: str | None = None
    ) -> NewWebhook:
        """Be told at `url` of all `events`, or of these, from now on. Its `secret` is shown this once.

        It is sent under a key, so that a retry makes no second one.
        """
        wish = Wish.of(url=url, events=None if events is None else list(events), description=description).once()
        return await self._courier.ask(NewWebhook, "POST", "/v1/webhooks", wish)

    async def change_webhook(
        self,
        id: str,
        *,
        url: str | None = None,
        events: Iterable[str] | None = None,
        description: str | None = None,
        disabled: bool | None = None,
    ) -> Webhook:
        """Change what is named; while it is `disabled` nothing is sent to it."""
        wanted = None if events is None else list(events)
        wish = Wish.of(url=url, events=wanted, description=description, disabled=disabled)
        return await self._courier.ask(Webhook, "PATCH", _webhook(id), wish)

    async def delete_webhook(self, id: str) -> Webhook:
        """Take it away; what is on its way to it ends."""
        return await self._courier.ask(Webhook, "DELETE", _webhook(id))

    async def rotate_webhook(self, id: str) -> WebhookSecret:
        """Sign with a new secret, and for a day with the old one too."""
        return await self._courier.ask(WebhookSecret, "POST", f"{_webhook(id)}/rotate")

    async def webhook_secret(self, *, rotate: bool = False) -> WebhookSecret:
        """What signs for the webhooks that jobs have named; with `rotate` a new one, beside the old one for a day."""
        if rotate:
            return await self._courier.ask(WebhookSecret, "POST", "/v1/webhooks/secret/rotate")
        return await self._courier.ask(WebhookSecret, "GET", "/v1/webhooks/secret")

    async def test_webhook(self, id: str) -> Delivery:
        """Send it `webhook.test`; what came of that stands in its deliveries."""
        return await self._courier.ask(Delivery, "POST", f"{_webhook(id)}/test")

    async def deliveries(self, id: str, *, status: str | None = None) -> AsyncGenerator[Delivery, None]:
        """What was sent to a webhook, those first that changed longest ago, as they are asked for page by page.

        The id `jobs` stands for the webhooks that jobs have named.
        """
        asked = {"limit": "200"} | ({"status": status} if status else {})
        while True:
            page = await self._courier.ask(DeliveryPage, "GET", f"{_webhook(id)}/deliveries", params=asked)
            for delivery in page.deliveries:
                yield delivery
            if page.next is None:
                return
            asked["cursor"] = page.next

    async def replay(self, id: str, delivery: str) -> Delivery:
        """Send a delivery again, from the first attempt on, under the same id."""
        path = f"{_webhook(id)}/deliveries/{quote(delivery, safe='')}/replay"
        return await self._courier.ask(Delivery, "POST", path)

    async def pipelines(self) -> tuple[PipelineReport, ...]:
        """The pipelines that take jobs."""
        return (await self._courier.ask(_Pipelines, "GET", "/v1/pipelines")).pipelines

    async def stages(self) -> tuple[StageReport, ...]:
        """Every stage: its lag and its replicas."""
        return (await self._courier.ask(_Stages, "GET", "/v1/stages")).stages


class _Submitted(RootModel[Job | Accepted]):
    """A job as it stands, or only that it is stored."""


class _Pipelines(BaseModel):
    pipelines: tuple[PipelineReport, ...]


class _Webhooks(BaseModel):
    webhooks: tuple[Webhook, ...]


class _Stages(BaseModel):
    stages: tuple[StageReport, ...]


def _job(id: str) -> str:
    return f"/v1/jobs/{quote(id, safe='')}"


def _dead_letter(id: str) -> str:
    return f"/v1/dead-letters/{quote(id, safe='')}"


def _webhook(id: str) -> str:
    return f"/v1/webhooks/{quote(id, safe='')}"


def _time(at: datetime | None) -> str | None:
    """A time as a query has it. Raises BadRequest for one without a zone, which could mean anything."""
    if at is not None and at.tzinfo is None:
        raise BadRequest(f"{at} has no time zone; give it one, such as datetime.UTC")
    return at.isoformat() if at is not None else None
