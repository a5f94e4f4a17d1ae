"""A real HTTP server that says what a test tells it to: this is what stands in for Headrace in tests of its clients."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

JOB = "a" * 26
AT = 1_800_000_000.0

Ending = Literal["end", "break", "tear", "hold"]
"""How a stream stops early: as if its time were up, between two events, in the middle of one; or it stays open."""


@dataclass(frozen=True)
class Connection:
    """One connection of a reader: stop after `events` of them, in this way; begin `again` events too early."""

    events: int
    ending: Ending = "end"
    again: int = 0


@dataclass
class Story:
    """What the server has to tell, and what was said to it."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    connections: deque[Connection] = field(default_factory=deque)
    refusals: deque[Response | None] = field(default_factory=deque)
    """The answers to the next requests, before anything is done; None answers as usual."""
    unanswered: int = 0
    """How many submits are stored and then not answered."""
    job: dict[str, Any] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    pipelines: list[dict[str, Any]] = field(default_factory=list)
    letters: list[dict[str, Any]] = field(default_factory=list)
    retry: int = 1500
    """How many milliseconds a reader is told to wait before it resumes."""
    stored: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The bodies of the jobs there are, by Idempotency-Key."""
    submits: int = 0
    wishes: list[dict[str, Any]] = field(default_factory=list)
    """What was wanted of jobs that are there."""
    places: list[tuple[str | None, str | None]] = field(default_factory=list)
    """Where readers wanted to begin: `after` and `Last-Event-ID`."""
    preferences: list[str | None] = field(default_factory=list)
    """What requests about one job preferred."""
    authorizations: set[str | None] = field(default_factory=set)
    """As whom they were sent."""


def told(*events: tuple[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Events with their numbers and times. An `n` that is given stays, as a merged piece has it."""
    numbered: list[tuple[str, dict[str, Any]]] = []
    for kind, data in events:
        n = data.get("n", numbered[-1][1]["n"] + 1 if numbered else 1)
        numbered.append((kind, {"at": AT + n, **data, "n": n}))
    return numbered


ANSWER = {"text": "It feeds a mill.", "sources": ["mills.md"]}

A_JOB = told(
    ("handoff", {"stage": "retrieve", "type": "Question"}),
    ("handoff", {"stage": "write", "type": "Grounded"}),
    ("step.started", {"stage": "write", "attempt": 1, "from": 0, "worker": "write-1"}),
    ("progress", {"stage": "write", "message": "reading", "done": 1, "total": 3}),
    ("delta", {"stage": "write", "from": 0, "text": "It feeds"}),
    ("delta", {"stage": "write", "from": 2, "text": " a\n\nmill", "n": 8}),
    ("delta", {"stage": "write", "from": 5, "text": ".", "finish_reason": "stop"}),
    ("handoff", {"stage": "polish", "type": "Draft"}),
    ("completed", {"answer": ANSWER, "usage": {"prompt_tokens": 7, "output_tokens": 6}}),
)
"""A whole job. The numbers 6 to 8 come as one merged piece."""

NUMBERS = [data["n"] for _, data in A_JOB]

LOG: list[dict[str, Any]] = [
    {"sequence": 10 * n, "subject": f"job.step.standard.local.{JOB}", "stored": AT, "event": {"n": n, "kind": "delta"}}
    for n in (1, 2, 3)
]

JOB_REPLY: dict[str, Any] = {
    "id": JOB,
    "status": "completed",
    "pipeline": "analysis",
    "version": "0123456789ab",
    "lane": "standard",
    "created": AT,
    "updated": AT + 9,
    "deadline": AT + 86_400,
    "stage": None,
    "attempts": 1,
    "answer": ANSWER,
    "usage": {"prompt_tokens": 7, "output_tokens": 6, "wasted_tokens": 0},
    "metadata": {"team": "blue"},
    "links": {"self": f"/v1/jobs/{JOB}", "events": f"/v1/events/{JOB}"},
}

PIPELINE: dict[str, Any] = {
    "name": "analysis",
    "version": "0123456789ab",
    "input": {
        "type": "object",
        "title": "Question",
        "properties": {"text": {"type": "string"}, "limit": {"type": "integer"}},
        "required": ["text"],
    },
    "answer": {"type": "object", "title": "Answer", "properties": {"text": {"type": "string"}}},
    "stages": ["retrieve", "write", "polish"],
    "routes": [
        {"giver": None, "message": "Question", "taker": "retrieve"},
        {"giver": "retrieve", "message": "Grounded", "taker": "write"},
        {"giver": "write", "message": "Draft", "taker": "polish"},
        {"giver": "polish", "message": "Answer", "taker": None},
    ],
}

QUESTION: dict[str, Any] = {
    "id": 7,
    "question": "When was the mill built?",
    "expects": {"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]},
}
"""What a job asks that is told to be `input_required`."""

STAGE: dict[str, Any] = {
    "stage": "write",
    "pipelines": ["analysis"],
    "waiting": 3,
    "running": 1,
    "oldest_age_s": 12.3,
    "lanes": {
        "interactive": {"waiting": 1, "running": 1, "oldest_age_s": 0.5},
        "standard": {"waiting": 2, "running": 0, "oldest_age_s": 12.3},
        "batch": {"waiting": 0, "running": 0, "oldest_age_s": None},
    },
    "replicas": [{"worker": "write-1", "state": "loading", "detail": "loading weights", "jobs": 0, "free": 0}],
}


def a_letter(id: str, **more: Any) -> dict[str, Any]:
    """A dead letter, whole."""
    broken = {"type": "RuntimeError", "message": "it broke", "trace": "File write.py, line 7"}
    return {
        "id": id,
        "pipeline": "analysis",
        "version": "0123456789ab",
        "lane": "standard",
        "stage": "write",
        "created": AT,
        "died": AT + 9,
        "deadline": AT + 86_400,
        "reason": "it failed as often as it may",
        "error": broken,
        "attempts": 3,
        "crashes": 1,
        "review": "open",
        "redriven": [],
        "input": {"text": "why?"},
        "type": "Question",
        "errors": [broken, broken],
        "partial": "It feeds",
        "timeline": [{"n": 1, "kind": "handoff", "by": "ingress/1", "at": AT}],
        **more,
    }


def problem(status: int, detail: str, *, retry_after: int | None = None, **more: Any) -> Response:
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else None
    body = {"type": "about:blank", "title": "No", "status": status, "detail": detail, **more}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


class Cut(Exception):
    """The connection ends here, in the middle of an answer."""


class ScriptedServer:
    """Listens on a free port from the start, in a thread of its own. A context manager."""

    def __init__(self) -> None:
        self.story = Story()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        app = Starlette(
            routes=[
                Route("/v1/pipelines", self._pipelines),
                Route("/v1/pipelines/{pipeline}/jobs", self._submit, methods=["POST"]),
                Route("/v1/jobs/{id}", self._job),
                Route("/v1/jobs/{id}/cancel", self._cancel, methods=["POST"]),
                Route("/v1/jobs/{id}/input", self._cancel, methods=["POST"]),
                Route("/v1/jobs/{id}/log", self._log),
                Route("/v1/dead-letters", self._dead_letters),
                Route("/v1/dead-letters/{id}", self._dead_letter),
                Route("/v1/dead-letters/{id}/redrive", self._redrive, methods=["POST"]),
                Route("/v1/dead-letters/{id}/discard", self._discard, methods=["POST"]),
                Route("/v1/events/{id}", self._events),
                Route("/v1/stages", self._stages),
            ]
        )
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="critical", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def tell(
        self,
        events: Iterable[tuple[str, dict[str, Any]]] = A_JOB,
        *,
        connections: Iterable[Connection] = (),
        refusals: Iterable[Response | None] = (),
        unanswered: int = 0,
        job: dict[str, Any] = JOB_REPLY,
        stages: Iterable[dict[str, Any]] = (STAGE,),
        pipelines: Iterable[dict[str, Any]] = (PIPELINE,),
        letters: Iterable[dict[str, Any]] = (),
        retry: int = 1500,
    ) -> Story:
        """Begin a new story."""
        self.story = Story(
            events=list(events),
            connections=deque(connections),
            refusals=deque(refusals),
            unanswered=unanswered,
            job=job,
            stages=list(stages),
            pipelines=list(pipelines),
            letters=list(letters),
            retry=retry,
        )
        return self.story

    def _refusal(self) -> Response | None:
        return self.story.refusals.popleft() if self.story.refusals else None

    async def _pipelines(self, request: Request) -> Response:
        return self._refusal() or JSONResponse({"pipelines": self.story.pipelines})

    async def _stages(self, request: Request) -> Response:
        return self._refusal() or JSONResponse({"stages": self.story.stages})

    async def _job(self, request: Request) -> Response:
        self.story.preferences.append(request.headers.get("Prefer"))
        self.story.authorizations.add(request.headers.get("Authorization"))
        return self._refusal() or JSONResponse(self.story.job)

    async def _cancel(self, request: Request) -> Response:
        self.story.wishes.append(await request.json())
        return self._refusal() or JSONResponse(self.story.job)

    async def _log(self, request: Request) -> Response:
        """The log after a place, as far as the plan goes, and then no further: it breaks off."""
        story, after = self.story, int(request.query_params["after"])
        story.places.append((str(after), None))
        plan = story.connections.popleft() if story.connections else None
        lines = [json.dumps(entry) for entry in LOG if entry["sequence"] > after]
        return self._refusal() or StreamingResponse(_lines(lines, plan), media_type="application/x-ndjson")

    async def _dead_letters(self, request: Request) -> Response:
        at = int(request.query_params.get("cursor", "0"))
        asked = {name: value for name, value in request.query_params.items() if name != "cursor"}
        fit = [letter for letter in self.story.letters if asked.items() <= letter.items()]
        more = str(at + 2) if at + 2 < len(fit) else None
        return self._refusal() or JSONResponse({"dead_letters": fit[at : at + 2], "next": more})

    async def _dead_letter(self, request: Request) -> Response:
        letter = next((x for x in self.story.letters if x["id"] == request.path_params["id"]), None)
        return self._refusal() or (JSONResponse(letter) if letter else problem(404, "no such dead letter"))

    async def _redrive(self, request: Request) -> Response:
        self.story.wishes.append({"redrive": request.path_params["id"], **await request.json()})
        return self._refusal() or JSONResponse(JOB_REPLY | {"status": "queued"}, 202)

    async def _discard(self, request: Request) -> Response:
        self.story.wishes.append({"discard": request.path_params["id"], **await request.json()})
        return await self._dead_letter(request)

    async def _submit(self, request: Request) -> Response:
        story, body = self.story, await request.json()
        story.submits += 1
        if refusal := self._refusal():
            return refusal
        key = request.headers["Idempotency-Key"]
        status = 200 if key in story.stored else 202
        if story.stored.setdefault(key, body) != body:
            return problem(422, "this key belongs to another request", key=key)
        prefers = request.headers.get("Prefer")
        story.preferences.append(prefers)
        reply = story.job if prefers else _accepted(body)
        if story.unanswered:
            story.unanswered -= 1
            return StreamingResponse(_torn(json.dumps(reply)), status)
        return JSONResponse(reply, status, {"Location": f"/v1/jobs/{JOB}"})

    async def _events(self, request: Request) -> Response:
        story = self.story
        after, last = request.query_params.get("after"), request.headers.get("Last-Event-ID")
        story.places.append((after, last))
        if refusal := self._refusal():
            return refusal
        n = int(last.partition(".")[0]) if last else int(after or 0)
        if story.events and n >= story.events[-1][1]["n"]:
            return Response(status_code=204)
        plan = story.connections.popleft() if story.connections else None
        return StreamingResponse(_streamed(story.events, n, plan, story.retry), media_type="text/event-stream")


async def _streamed(
    events: list[tuple[str, dict[str, Any]]], after: int, plan: Connection | None, retry: int
) -> AsyncIterator[bytes]:
    """The events after number `after`, with a heartbeat between any two, as far as the plan goes."""
    begin = next(i for i, (_, data) in enumerate(events) if data["n"] > after)
    begin = max(0, begin - plan.again) if plan else begin
    end = begin + plan.events if plan else len(events)
    yield f"retry: {retry}\n\n".encode()
    for event in events[begin:end]:
        yield _frame(*event)
        yield b": still here\n\n"
    if plan and end < len(events) and plan.ending == "tear":
        frame = _frame(*events[end])
        yield frame[: len(frame) * 2 // 3]
    if plan and plan.ending == "hold":
        await asyncio.Event().wait()
    if plan and plan.ending != "end":
        raise Cut


def _accepted(body: dict[str, Any]) -> dict[str, Any]:
    said = {name: JOB_REPLY[name] for name in ("id", "pipeline", "version", "created", "deadline", "links")}
    return {**said, "status": "queued", "lane": body.get("lane", "standard")}


async def _lines(lines: list[str], plan: Connection | None) -> AsyncIterator[bytes]:
    for line in lines[: plan.events] if plan else lines:
        yield f"{line}\n".encode()
    if plan:
        raise Cut


async def _torn(text: str) -> AsyncIterator[bytes]:
    yield text[: len(text) // 2].encode()
    raise Cut


def _frame(kind: str, data: dict[str, Any]) -> bytes:
    return f"id: {data['n']}.{data['n'] * 10}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()
