"""Questions: what jobs ask of people is answered over HTTP."""

from __future__ import annotations

import asyncio

from pydantic import JsonValue
from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from actors.contracts.events import InputRequired
from actors.contracts.fold import JobState
from actors.contracts.subjects import Subject, is_job
from actors.http import reports
from actors.http.author import author
from actors.http.body import body_of, read_body, too_deep, too_large
from actors.http.caller import Caller, caller_of
from actors.http.carrier import Carrier
from actors.http.fit import misfits
from actors.http.problem import ANSWERED_OTHERWISE, INVALID, NOT_ASKED, Refusal, unknown_job
from actors.http.wishes import Answering
from actors.journal import TooLarge, Undecided
from actors.journal.journal import Journal, PatientJournal
from actors.journal.later import Later
from actors.runtime.answer import Hearing, tell
from actors.runtime.job_log import JobLog
from actors.runtime.writer import Clock


class Questions:
    """Takes answers. It holds nothing: what is asked and what was answered is in the job's log."""

    def __init__(self, log: PatientJournal, carrier: Carrier, *, patience: float, now: Clock) -> None:
        self._log = log
        self._carrier = carrier
        self._patience = patience
        self._now = now

    @property
    def routes(self) -> list[Route]:
        return [Route("/v1/jobs/{id}/input", self.answer, methods=["POST"])]

    async def answer(self, request: Request) -> Response:
        """Answer what a job asks: 200 once that is stored, or was before."""
        id = request.path_params["id"]
        if not is_job(id):
            raise unknown_job(id)
        wish = read_body(Answering, await body_of(request))
        _check_depth(wish.answer)
        return await self._carrier.carry(self._tell(caller_of(request), id, wish, author(request)))

    async def _tell(self, caller: Caller, id: str, wish: Answering, by: str) -> Response:
        try:
            async with asyncio.timeout(self._patience):
                journal = await self._log.opened(self._patience)
                tenant = await caller.owner(journal.reader, id)
                log = JobLog(journal, tenant, id, by=by, now=self._now)
                await log.read()
                heard = await self._store(journal, tenant, log, wish)
        except TimeoutError:
            raise Undecided("the job's log did not answer in time") from None
        except TooLarge:
            raise too_large() from None
        if heard is None:
            raise unknown_job(id)
        _refuse(heard, log.state, wish)
        return Response(to_json(_report(log)), media_type="application/json")

    async def _store(self, journal: Journal, tenant: str, log: JobLog, wish: Answering) -> Hearing | None:
        """Tell the job, and strike out when it would have been told that nobody answers."""
        later = Later(journal.signals)
        noted = await later.noted(tenant, log.job)
        heard = await tell(log, wish.question, wish.answer, _check)
        if heard is Hearing.TOLD and noted is not None:
            await later.strike_out(noted)
        return heard


def _report(log: JobLog) -> reports.Report:
    assert log.state is not None, "a job that was told something is there"
    return reports.job(log.job, Subject.parse(log.records[0].subject).lane, log.state)


def _refuse(heard: Hearing, state: JobState | None, wish: Answering) -> None:
    """Raises Refusal where the answer was not taken; says what is asked now."""
    asked = state.question if state else None
    now = asked.n if asked else None
    match heard:
        case Hearing.NOT_ASKED:
            instead = f"It asks question {asked.n} now: {asked.question!r}" if asked else "It asks nothing now."
            raise Refusal(NOT_ASKED, f"It has no question {wish.question}. {instead}", question=now)
        case Hearing.OTHERWISE:
            raise Refusal(
                ANSWERED_OTHERWISE, "Somebody has answered it otherwise, and that answer stays.", question=now
            )
        case Hearing.TOO_LATE:
            raise Refusal(
                ANSWERED_OTHERWISE, "Nobody had answered it in time, and the job went on without.", question=now
            )


def _check(question: InputRequired, answer: JsonValue) -> None:
    """Raises Refusal where an answer does not fit what the question expects."""
    if faults := misfits(question.expects, answer):
        raise Refusal(INVALID, "Send an `answer` that fits `expects`.", errors=faults, expects=question.expects)


def _check_depth(answer: JsonValue) -> None:
    """Raises Refusal for what could not be read back out of the log."""
    try:
        from_json(to_json({"told": {"answer": answer}}))
    except ValueError:
        raise too_deep() from None
