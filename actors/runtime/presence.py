"""Presence: how workers answer, beside the log, for what they hold and how they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from actors.contracts.subjects import worker_subject, workers_subject
from actors.journal.connection import Link, NobodyThere, Unanswered
from actors.runtime.effort import Effort

ASK_S = 0.2
"""How long a worker or a stage is given to answer, in seconds."""

REJOIN_S = 1.0
"""How long after a restart of the server a worker that nobody finds may still be on its way back, in seconds."""

State = Literal["starting", "loading", "ready", "draining", "failed"]

Role = Literal["regular", "spare", "overflow"]


class UnknownVersion(BaseModel):
    """A version of a pipeline that a worker does not know, and how many jobs of it wait for one that does."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pipeline: str
    version: str
    jobs: int


class WorkerStatus(BaseModel):
    """How a worker is. `detail` says what it does, or what is wrong; `jobs` it runs, `free` more would fit.

    `done` is how far it is with what it does, from 0 to 1, where that is known. A `spare` stands by for one that is
    lost; an `overflow` helps where jobs have waited too long. `unknown` are versions whose jobs it sends away. Where it
    has an engine, `effort` is what its jobs took lately, and `tokens_left` about how many tokens those that it runs
    still take; None while it cannot say.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    worker: str
    stage: str
    state: State
    detail: str = ""
    jobs: int = 0
    free: int = 0
    since: float = 0.0
    done: float | None = None
    role: Role = "regular"
    unknown: tuple[UnknownVersion, ...] = ()
    effort: Effort | None = None
    tokens_left: int | None = None


class _Question(BaseModel):
    """Whether the worker runs this claim; with `look`, it is to look into the log again for it."""

    claim: str
    look: bool = False


class _Answer(BaseModel):
    running: bool


class Presence:
    """A worker's answers: on its own subject whether it runs a claim, on its stage's how it is.

    `look` is called with a claim that it runs and that somebody has written something for.
    """

    def __init__(
        self,
        link: Link,
        *,
        holds: Callable[[str], bool],
        status: Callable[[], WorkerStatus],
        look: Callable[[str], None] = lambda claim: None,
    ) -> None:
        self._link = link
        self._holds = holds
        self._look = look
        self._status = status

    async def open(self) -> None:
        """Begin to answer; goes on over reconnects until the link closes."""
        me = self._status()
        await self._link.answer(worker_subject(me.worker), self._whether_running)
        await self._link.answer(workers_subject(me.stage), lambda _: self._status().model_dump_json().encode())

    def _whether_running(self, question: bytes) -> bytes:
        try:
            asked = _Question.model_validate_json(question)
        except ValidationError:
            return b'{"error":"ask {\\"claim\\": \\"<claim>\\"}"}'
        running = self._holds(asked.claim)
        if running and asked.look:
            self._look(asked.claim)
        return _Answer(running=running).model_dump_json().encode()


class Owners:
    """Asks workers about their claims."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def runs(self, worker: str, claim: str) -> bool | None:
        """True: it runs it. False: it does not, or nobody of that name is there. None: silence."""
        return await self._ask(worker, _Question(claim=claim))

    async def look(self, worker: str, claim: str) -> bool | None:
        """The same, and if it runs it, it looks into the log again: there is something in it for that claim."""
        return await self._ask(worker, _Question(claim=claim, look=True))

    async def is_there(self, worker: str) -> bool | None:
        """Whether a worker of that name answers at all; None: silence."""
        try:
            await self._request(worker, _Question(claim=""))
        except NobodyThere:
            return False
        except Unanswered:
            return None
        return True

    async def _ask(self, worker: str, question: _Question) -> bool | None:
        try:
            return _Answer.model_validate_json(await self._request(worker, question)).running
        except NobodyThere:
            return False
        except (Unanswered, ValidationError):
            return None

    async def _request(self, worker: str, question: _Question) -> bytes:
        subject, asked = worker_subject(worker), question.model_dump_json().encode()
        try:
            return (await self._link.request(subject, asked, timeout=ASK_S)).data
        except NobodyThere:
            if (wait := REJOIN_S - self._link.back_for) <= 0:
                raise
        # The server was away: who is not back at once is back in a moment, and has lost nothing.
        await asyncio.sleep(wait)
        return (await self._link.request(subject, asked, timeout=ASK_S)).data


async def workers_of(link: Link, stage: str, *, within: float = ASK_S) -> list[WorkerStatus]:
    """How every worker of a stage is that answers within so many seconds. Raises Unanswered when disconnected."""
    found = []
    for answer in await link.gather(workers_subject(stage), within=within):
        try:
            found.append(WorkerStatus.model_validate_json(answer.data))
        except ValidationError:
            continue  # a worker of another version, which says something else
    return sorted(found, key=lambda w: w.worker)
