"""OpenAI's API over the same jobs: responses, chat completions, models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from actors.contracts.conversation import Conversation, Reply, Said
from actors.contracts.events import Completed, Delta, HandOff, NotAnEvent, Outcome, Record
from actors.contracts.subjects import is_job
from actors.forgetting import forget_job
from actors.http import openai_answers as answers
from actors.http import openai_errors as errors
from actors.http import openai_inputs as inputs
from actors.http.acceptance import Received, Reception
from actors.http.audience import Audience
from actors.http.author import author
from actors.http.body import body_of
from actors.http.caller import Owned, caller_of
from actors.http.carrier import Carrier
from actors.http.openai_answers import Asked, ChatStream, Json, ResponseStream
from actors.http.openai_items import called
from actors.http.openai_requests import NOTHING, Before, CreateChat, CreateResponse, asked_of, read_request
from actors.http.problem import Refusal, answer_refusals
from actors.http.prompts import Prompts
from actors.http.stream import EventStream
from actors.http.submission import key_of
from actors.http.waiting import Waiting, while_there
from actors.journal import Journal, Unanswered, Undecided
from actors.journal.follow import Place
from actors.journal.forget import audited
from actors.journal.journal import PatientJournal
from actors.pipeline import Pipeline
from actors.runtime.cancel import cancel
from actors.runtime.flags import STREAM_LIFE_S
from actors.runtime.job_log import JobLog
from actors.runtime.presence import Owners
from actors.runtime.writer import Clock

READ_PATIENCE_S = 1.0
STOP_S = 5.0
"""How long a cancel or a delete waits for the outcome of a response that runs, and for the audit log to have it."""

LOOK_S = 0.05
PREFIXES = ("/v1/models", "/v1/responses", "/v1/chat/completions")
DONE = b"data: [DONE]\n\n"


class OpenAI:
    """Answers OpenAI's clients. It holds nothing of a job: any replica answers for any response.

    What may be called as a model are the pipelines that take a Conversation and give a Reply, by name; the first of
    them by the name of the model, too. A call waits `patience` seconds for its outcome at most.
    """

    def __init__(
        self,
        log: PatientJournal,
        pipelines: Iterable[Pipeline],
        model: str,
        carrier: Carrier,
        reception: Reception,
        waiting: Waiting,
        prompts: Prompts,
        audience: Audience,
        *,
        now: Clock,
        patience: float = STREAM_LIFE_S,
    ) -> None:
        chats = [pipeline for pipeline in pipelines if (pipeline.input, pipeline.answer) == (Conversation, Reply)]
        self._log = log
        self._models = {pipeline.name: pipeline for pipeline in chats}
        if chats:
            self._models.setdefault(model, chats[0])
        self._carrier = carrier
        self._reception = reception
        self._waiting = waiting
        self._prompts = prompts
        self._audience = audience
        self._now = now
        self._patience = patience

    @property
    def routes(self) -> list[BaseRoute]:
        """Every path of the API leads to an application of its own, whose errors are OpenAI's."""
        one = "/v1/responses/{id}"
        app = Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/models/{model:path}", self.model),
                Route("/v1/responses", self.create_response, methods=["POST"]),
                Route(one, self.response, methods=["GET"]),
                Route(one, self.delete, methods=["DELETE"]),
                Route(f"{one}/input_items", self.input_items, methods=["GET"]),
                Route(f"{one}/cancel", self.cancel, methods=["POST"]),
                Route("/v1/chat/completions", self.create_chat, methods=["POST"]),
            ]
        )
        app.router.redirect_slashes = False
        answer_refusals(app, errors.answer)
        return [Route(path, app) for prefix in PREFIXES for path in (prefix, f"{prefix}/{{rest:path}}")]

    @staticmethod
    def words(path: str) -> Callable[[Refusal], Response]:
        """How a request for this path is refused before it comes here."""
        return errors.answer if path.startswith(PREFIXES) else Refusal.answer

    async def models(self, _: Request) -> Response:
        """What can be asked for."""
        return _json({"object": "list", "data": [answers.model(name) for name in self._models]})

    async def model(self, request: Request) -> Response:
        """One of them."""
        name = request.path_params["model"]
        self._pipeline(name)
        return _json(answers.model(name))

    async def create_response(self, request: Request) -> Response:
        """Store a response; answer at once when it is in the background, else with its outcome, or as it is made."""
        key, body = key_of(request), await body_of(request)
        wanted = read_request(CreateResponse, body)
        with self._reading(request, wanted):
            received = await self._receive(request, wanted, key, body)
            journal = await self._log.connected(READ_PATIENCE_S)
            job = Owned(caller_of(request).tenant, received.job)
            if wanted.stream:
                return self._stream_response(request, journal, job, await self._records(journal, job))
        if not wanted.background:
            await while_there(request, self._waiting.outcome(journal, job, self._patience))
        return _json(await self._told(journal, job))

    async def response(self, request: Request) -> Response:
        """A response as it stands; with `stream=true` its events after `starting_after`, as they come."""
        id, query = _job(request), request.query_params
        journal = await self._log.connected(READ_PATIENCE_S)
        job = Owned(await caller_of(request).owner(journal.reader, id), id)
        if query.get("stream", "false").lower() != "true":
            return _json(await self._told(journal, job))
        after = query.get("starting_after", "0")
        if not (after.isdecimal() and len(after) <= 15):
            raise Refusal(errors.INVALID_VALUE, "`starting_after` is a sequence number.", param="starting_after")
        records = await self._records(journal, job)
        self._audience.must_have_room(caller_of(request), returning=int(after) > 0)
        return self._stream_response(request, journal, job, records, int(after))

    async def input_items(self, request: Request) -> Response:
        """What the model was given for a response, the newest first where nothing else is asked for."""
        id = _job(request)
        journal = await self._log.connected(READ_PATIENCE_S)
        job = Owned(await caller_of(request).owner(journal.reader, id), id)
        records = await self._records(journal, job)
        given = _given(_known(job, records), records)
        if given is None:
            raise errors.unknown_response(answers.RESPONSE + id)
        return _json(inputs.page(id, given, request.query_params))

    async def cancel(self, request: Request) -> Response:
        """Stop a response that is in the background; the response as it stands then, its end if it comes soon."""
        id = _job(request)
        journal = await self._log.connected(READ_PATIENCE_S)
        job = Owned(await caller_of(request).owner(journal.reader, id), id)
        if not _known(job, await self._records(journal, job)).echo.background:
            raise Refusal(errors.NOT_IN_BACKGROUND, "Create it with `background=true` to be able to cancel it.")
        await self._carrier.carry(self._stop(journal, job, author(request)))
        return _json(await self._told(journal, job))

    async def delete(self, request: Request) -> Response:
        """Take a response out of the log for good; one that runs is cancelled before. The audit log keeps its facts."""
        id = _job(request)
        journal = await self._log.connected(READ_PATIENCE_S)
        job = Owned(await caller_of(request).owner(journal.reader, id), id)
        _known(job, await self._records(journal, job))
        await self._carrier.carry(self._delete(journal, job, author(request)))
        return _json({"id": answers.RESPONSE + id, "object": "response", "deleted": True})

    async def create_chat(self, request: Request) -> Response:
        """Store a chat completion; answer with its outcome, or as it is made."""
        key, body = key_of(request), await body_of(request)
        wanted = read_request(CreateChat, body)
        with self._reading(request, wanted):
            received = await self._receive(request, wanted, key, body)
            journal = await self._log.connected(READ_PATIENCE_S)
            job = Owned(caller_of(request).tenant, received.job)
            asked = Asked.of(received.job, await self._records(journal, job), "chat")
            if asked is None:
                raise Unanswered("the job cannot be read yet")
            if wanted.stream:
                chunks = ChatStream(asked, include_usage=wanted.stream_options.include_usage)
                return self._stream(request, self._chunks(journal, chunks, job))
        match await while_there(request, self._waiting.outcome(journal, job, self._patience)):
            case None:
                raise Refusal(errors.TOO_SLOW, "It goes on all the same; stream it, or use /v1/responses.")
            case Completed() as completed:
                return _json(answers.chat_completion(asked, completed))
            case outcome:
                raise Refusal(errors.FAILED, answers.failure(outcome))

    def _reading(self, request: Request, wanted: CreateResponse | CreateChat) -> AbstractContextManager[None]:
        """While this is entered, whoever wants a stream has its place: a job that was stored is not refused.

        Raises Refusal.
        """
        if not wanted.stream:
            return nullcontext()
        self._audience.must_have_room(caller_of(request))
        return self._audience.place(caller_of(request))

    def _pipeline(self, model: str) -> Pipeline:
        if (pipeline := self._models.get(model)) is None:
            known = ", ".join(self._models) or "none, as no pipeline takes a Conversation and gives a Reply"
            raise Refusal(
                errors.MODEL_NOT_FOUND, f"There is no model {model[:64]!r}; there are: {known}.", param="model"
            )
        return pipeline

    async def _receive(
        self, request: Request, wanted: CreateResponse | CreateChat, key: str, body: bytearray
    ) -> Received:
        pipeline = self._pipeline(wanted.model)
        before = await self._before(request, wanted) if isinstance(wanted, CreateResponse) else NOTHING
        asked, conversation = asked_of(pipeline.name, wanted, body, before)
        await self._prompts.expect_room(pipeline, conversation)
        tenant = caller_of(request).tenant
        return await self._carrier.carry(self._reception.receive(tenant, pipeline, asked, key, author(request)))

    async def _before(self, request: Request, wanted: CreateResponse) -> Before:
        """What was said up to the response that this one goes on after, its instructions left out. Raises Refusal."""
        if (id := wanted.previous_response_id) is None:
            return NOTHING
        job = Owned(caller_of(request).tenant, _job_of(id, "previous_response_id"))
        records = await self._records(await self._log.connected(READ_PATIENCE_S), job)
        asked = Asked.of(job.job, records, "responses")
        given = _given(asked, records) if asked else None
        if asked is None or given is None:
            raise errors.unknown_response(id, "previous_response_id")
        return _before(asked, given, records)

    async def _records(self, journal: Journal, job: Owned) -> list[Record]:
        """A job's log, as the leader knows it: what was just stored is in it."""
        last = await journal.reader.last(*job)
        return await journal.reader.job(*job, at_least=last.seq) if last else []

    async def _told(self, journal: Journal, job: Owned) -> Json:
        records = await self._records(journal, job)
        return answers.response(_known(job, records), records)

    def _stream_response(
        self, request: Request, journal: Journal, job: Owned, records: list[Record], after: int = 0
    ) -> EventStream:
        return self._stream(request, self._events(journal, job, _known(job, records), records, after))

    def _stream(self, request: Request, frames: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> EventStream:
        placed = self._audience.placed(caller_of(request), frames)
        return EventStream(placed, life=STREAM_LIFE_S, retry_ms=None)

    @asynccontextmanager
    async def _events(
        self, journal: Journal, job: Owned, asked: Asked, records: list[Record], after: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The frames of a response after a sequence number.

        What lies before is turned too, because events become what they become by what came before them.
        """
        whole = [record for record in records if _is_event(record)]
        seen = _seen(whole, after)
        turning = ResponseStream(asked, void_until=answers.void_until(whole, seen.n))
        for record in whole:
            if record.event.n <= seen.n:
                list(turning.take(record.event.n, record.event))

        async def frames() -> AsyncIterator[bytes]:
            async for item in items:
                for event in turning.take(item.n, item.event):
                    if event["sequence_number"] > after:
                        yield _frame(event, named=True)
                    if event["type"] == "error":
                        return
            yield DONE

        async with self._waiting.follower(journal).follow(*job, seen) as items:
            yield frames()

    @asynccontextmanager
    async def _chunks(self, journal: Journal, turning: ChatStream, job: Owned) -> AsyncIterator[AsyncIterator[bytes]]:
        async def frames() -> AsyncIterator[bytes]:
            async for item in items:
                for chunk in turning.take(item.n, item.event):
                    yield _frame(chunk)
                    if "error" in chunk:
                        return
            yield DONE

        async with self._waiting.follower(journal).follow(*job, Place()) as items:
            yield frames()

    async def _stop(self, journal: Journal, job: Owned, by: str) -> JobLog:
        """See to it that a job ends, and wait a while for that."""
        log = JobLog(journal, *job, by=by, now=self._now)
        try:
            async with asyncio.timeout(STOP_S):
                await log.read()
                await cancel(log, Owners(journal.signals), None)
        except TimeoutError:
            raise Undecided("the job's log did not answer in time") from None
        if log.state and log.state.outcome is None:
            await self._waiting.outcome(journal, job, STOP_S)
            await log.read()
        return log

    async def _delete(self, journal: Journal, job: Owned, by: str) -> None:
        log = await self._stop(journal, job, by)
        end = next((record for record in reversed(log.records) if isinstance(record.event, Outcome)), None)
        if end is None:
            raise Refusal(errors.NOT_ENDED, "It is being cancelled: delete it again in a moment.")
        try:
            async with asyncio.timeout(STOP_S):
                while not await forget_job(journal, end, await audited(journal.signals)):  # noqa: ASYNC110  # nobody says when
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise Unanswered("the audit log does not have it yet") from None


def _job(request: Request) -> str:
    """The job that a response's id stands for. Raises Refusal."""
    return _job_of(request.path_params["id"], "response_id")


def _job_of(id: str, param: str) -> str:
    job = id.removeprefix(answers.RESPONSE)
    if not (id.startswith(answers.RESPONSE) and is_job(job)):
        raise errors.unknown_response(id, param)
    return job


def _given(asked: Asked, records: list[Record]) -> list[Said] | None:
    """What the model was given for a response, its instructions left out; None when that is not kept any more."""
    said = next((r.event.message.body.get("messages") for r in records if isinstance(r.event, HandOff)), None)
    return said and [Said.model_validate(turn) for turn in said[1 if asked.echo.instructions else 0 :]]


def _before(asked: Asked, given: list[Said], records: list[Record]) -> Before:
    """What was said in a response, and before it. Raises Refusal for one without an answer."""
    outcome = next((record.event for record in records if isinstance(record.event, Outcome)), None)
    if outcome is None:
        raise Refusal(
            errors.NOT_ENDED, "Wait for the response that this one goes on after.", param="previous_response_id"
        )
    if not isinstance(outcome, Completed):
        why = f"The response that this one goes on after has no answer: {answers.failure(outcome)}"
        raise Refusal(errors.INVALID_VALUE, why, param="previous_response_id")
    reply = answers.reply_of(outcome)
    calls = [(call.name, answers.arguments(call)) for call in reply.calls]
    names = {asked.call_id(at): call.name for at, call in enumerate(reply.calls)}
    answer = called(calls) if calls else Said(role="assistant", content=reply.text)
    return Before([*given, answer], names)


def _known(job: Owned, records: list[Record]) -> Asked:
    if (asked := Asked.of(job.job, records, "responses")) is None:
        raise errors.unknown_response(answers.RESPONSE + job.job)
    return asked


def _is_event(record: Record) -> bool:
    try:
        return bool(record.event)
    except NotAnEvent:
        return False


def _seen(records: list[Record], after: int) -> Place:
    """The last event of which everything has been seen. A piece of text is one event; of others there may be more.

    Never the outcome, by which whoever follows knows the end: who asks for what comes after it is told at once.
    """
    n = after // answers.EVENTS_PER_EVENT
    end = min((record.event.n for record in records if isinstance(record.event, Outcome)), default=n + 1)
    for record in reversed(records):
        at = record.event.n
        if at < min(n, end) or (at == n < end and isinstance(record.event, Delta)):
            return Place(at, record.seq)
    return Place()


def _frame(event: Json, *, named: bool = False) -> bytes:
    name = f"event: {event['type']}\n" if named else ""
    return f"{name}data: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def _json(told: Json) -> Response:
    return Response(to_json(told), media_type="application/json")
