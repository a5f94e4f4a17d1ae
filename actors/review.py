"""Review: dead letters, for people: they list them, look at them, redrive them or discard them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from actors.contracts.chain import digest
from actors.contracts.events import DeadLettered, HandOff, NotAnEvent, Origin, Record, ReviewDiscarded, ReviewRedriven
from actors.contracts.letter import Letter, fold_letter
from actors.contracts.messages import Message, Packed
from actors.contracts.subjects import Subject, dead_letters, is_job, redriven_job_id
from actors.http import letters, reports
from actors.http.acceptance import accept
from actors.http.author import author
from actors.http.body import body_of, misfit, read_body
from actors.http.caller import caller_of
from actors.http.carrier import Carrier
from actors.http.paging import page_of
from actors.http.problem import (
    DISCARDED,
    NOT_REDRIVABLE,
    REDRIVEN_OTHERWISE,
    Refusal,
    unknown_dead_letter,
    unknown_job,
)
from actors.http.wishes import Discarding, Redriving
from actors.journal import Journal, Refused, Undecided
from actors.journal.journal import PatientJournal
from actors.pipeline import Catalogue, Pipeline, Stage
from actors.runtime.job_log import JobLog
from actors.runtime.writer import Clock, FactStamp

LOOK = 16
"""How many dead letters are read at a time: each may have megabytes."""

MOST_LOOKS = 64
"""A page that is not full after so many goes out as it is: a filter may fit nothing."""


class Review:
    """What people do about dead letters. It holds nothing: whatever was done is in the job's log.

    A dead letter is kept until somebody has discarded it, and room is needed. `review.*` is all that may follow an
    outcome.
    """

    def __init__(
        self,
        log: PatientJournal,
        pipelines: Catalogue,
        carrier: Carrier,
        *,
        patience: float,
        now: Clock,
    ) -> None:
        self._log = log
        self._pipelines = pipelines
        self._carrier = carrier
        self._patience = patience
        self._now = now

    @property
    def routes(self) -> list[Route]:
        one = "/v1/dead-letters/{id}"
        return [
            Route("/v1/dead-letters", self.page),
            Route(one, self.show),
            Route(f"{one}/redrive", self.redrive, methods=["POST"]),
            Route(f"{one}/discard", self.discard, methods=["POST"]),
        ]

    async def page(self, request: Request) -> Response:
        """A page of dead letters, the oldest first."""
        asked = request.query_params
        limit, position = page_of(request)
        async with self._in_time() as journal:
            found, more = await _page(
                journal,
                dead_letters(caller_of(request).tenants),
                position,
                limit,
                asked.get("pipeline"),
                asked.get("stage"),
            )
            told = await asyncio.gather(*(_reviewed(journal, record) for record in found))
        said = [letters.summary(letter) for letter in told if letter]
        return _json({"dead_letters": said, "next": str(more) if more is not None else None})

    async def show(self, request: Request) -> Response:
        """A dead letter, whole, with what happened to its job."""
        async with self._in_time() as journal:
            log, letter = await self._letter(journal, request)
        return _json(letters.whole(letter, log.records))

    async def redrive(self, request: Request) -> Response:
        """Make a new job of a dead letter: 202 once it is stored, 200 if that redrive was made before."""
        wish = read_body(Redriving, await body_of(request, optional=True))
        return await self._carrier.carry(self._redrive(request, wish))

    async def discard(self, request: Request) -> Response:
        """Let a dead letter be, for good."""
        wish = read_body(Discarding, await body_of(request))
        return await self._carrier.carry(self._discard(request, wish))

    async def _redrive(self, request: Request, wish: Redriving) -> Response:
        """The new job first, then the note in the old one's log: whoever is cut off in between does it again.

        The new job begins at the stage that failed, with what that stage was given: finished work is not done again.
        Its id says which job it is of and the how-manieth, so two people who redrive at once make one job.
        """
        async with self._in_time() as journal:
            log, letter = await self._letter(journal, request)
            number = await self._which(journal, letter, wish, request)
            of = letter.address
            address = replace(of, job=redriven_job_id(of.tenant, letter.job, number))
            handoff = self._hand_off(request, letter, wish)
            created = number > len(letter.redriven)
            if letter.discarded and (created or wish.number is None):
                raise Refusal(DISCARDED, f"Somebody let it be: {letter.discarded.reason!r}. Submit a new job instead.")
            if created:
                try:
                    await accept(journal, address, handoff)
                except Refused:
                    created = False
            report = reports.accepted(address.job, address.lane, handoff.origin)
            if not created:
                report = await _same(self._log_of(journal, address.tenant, address.job, request), handoff.origin)
            note = _redriven(address.job)
            while (now := fold_letter(log.records)) and address.job not in now.redriven:
                await log.append(note, keep=True)
        headers = {"Location": f"/v1/jobs/{address.job}"}
        return _json(report, 202 if created else 200, headers)

    async def _discard(self, request: Request, wish: Discarding) -> Response:
        async with self._in_time() as journal:
            log, letter = await self._letter(journal, request)
            while not letter.discarded:
                await log.append(lambda stamp: ReviewDiscarded(**stamp, reason=wish.reason), keep=True)
                if (now := fold_letter(log.records)) is None:
                    raise unknown_dead_letter(letter.job)
                letter = now
        return _json(letters.whole(letter, log.records))

    async def _which(self, journal: Journal, letter: Letter, wish: Redriving, request: Request) -> int:
        """Which redrive is meant, from 1. Where that is not said, the last if that still runs, else the next."""
        done = len(letter.redriven)
        if wish.number is not None and wish.number > done + 1:
            raise Refusal(
                REDRIVEN_OTHERWISE, f"It was redriven {done} times, so the next is number {done + 1}.", redriven=done
            )
        if wish.number is not None or not done:
            return wish.number or 1
        newest = await self._log_of(journal, letter.address.tenant, letter.redriven[-1], request).read()
        return done if newest and newest.outcome is None else done + 1

    def _hand_off(self, request: Request, letter: Letter, wish: Redriving) -> HandOff:
        old, now = letter.event.origin, self._now()
        pipeline, stage, kind = self._taker(letter)
        packed = Packed.of(_message(kind, letter.event.input.body if wish.input is None else wish.input))
        said = json.dumps({"redriven_from": letter.job, "input": packed.body}, sort_keys=True, separators=(",", ":"))
        asked = {
            "pipeline": pipeline.name,
            "version": pipeline.version,
            "fingerprint": digest(said.encode()),
            "created": now,
            "deadline": now + (old.deadline - old.created),
            "redriven_from": letter.job,
        }
        origin = old.model_copy(update=asked)
        return HandOff(n=1, by=author(request), at=now, stage=stage.name, origin=origin, message=packed)

    def _taker(self, letter: Letter) -> tuple[Pipeline, Stage, type[Message]]:
        """Who takes the dead letter's input today: by its type, as everywhere."""
        name, wire_name = letter.event.origin.pipeline, letter.event.input.type
        pipeline = self._pipelines.of(name, letter.event.origin.version)
        kind = pipeline.messages.get(wire_name) if pipeline else None
        stage = pipeline.taker(kind) if pipeline and kind else None
        if pipeline is None or kind is None or stage is None:
            missing = f"no stage of pipeline {name!r} takes a {wire_name}" if pipeline else f"there is no {name!r}"
            raise Refusal(
                NOT_REDRIVABLE, f"It cannot be redriven here: {missing}. Deploy the version that does, or discard it."
            )
        return pipeline, stage, kind

    async def _letter(self, journal: Journal, request: Request) -> tuple[JobLog, Letter]:
        id = request.path_params["id"]
        if not is_job(id):
            raise unknown_dead_letter(id)
        log = self._log_of(journal, await caller_of(request).owner(journal.reader, id), id, request)
        await log.read()
        if (letter := fold_letter(log.records)) is None:
            raise unknown_dead_letter(id)
        return log, letter

    def _log_of(self, journal: Journal, tenant: str, job: str, request: Request) -> JobLog:
        return JobLog(journal, tenant, job, by=author(request), now=self._now)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[Journal]:
        """The log, for as long as a client is kept waiting. Raises Unanswered and Undecided."""
        try:
            async with asyncio.timeout(self._patience):
                yield await self._log.opened(self._patience)
        except TimeoutError:
            raise Undecided("the log did not answer in time") from None


async def _page(
    journal: Journal, letters_of: str, position: int, limit: int, pipeline: str | None, stage: str | None
) -> tuple[list[Record], int | None]:
    """The next dead letters after a position that fit, and where to go on; None when there are no more."""
    found: list[Record] = []
    for _ in range(MOST_LOOKS):
        seen = await journal.reader.after(letters_of, position, most=LOOK)
        if not seen:
            return found, None
        for record in seen:
            position = record.seq
            if _fits(record, pipeline, stage):
                found.append(record)
            if len(found) == limit:
                return found, position
    return found, position


def _fits(record: Record, pipeline: str | None, stage: str | None) -> bool:
    try:
        event = record.event
    except NotAnEvent:
        return False
    return (
        isinstance(event, DeadLettered) and pipeline in (None, event.origin.pipeline) and stage in (None, event.stage)
    )


async def _reviewed(journal: Journal, record: Record) -> Letter | None:
    of = Subject.parse(record.subject)
    return fold_letter([record, *await journal.reader.job(of.tenant, of.job, after=record.seq)])


async def _same(log: JobLog, origin: Origin) -> reports.Report:
    """The job that this redrive was made earlier. Raises Refusal when it is gone, or was given another input."""
    state = await log.read()
    if state is None:
        raise unknown_job(log.job)
    if state.origin.fingerprint != origin.fingerprint:
        raise Refusal(
            REDRIVEN_OTHERWISE,
            "Somebody has redriven it with another input. Look at that job; then redrive again, with the next number.",
            id=log.job,
        )
    return reports.job(log.job, Subject.parse(log.records[0].subject).lane, state)


def _redriven(to: str) -> Callable[[FactStamp], ReviewRedriven]:
    return lambda stamp: ReviewRedriven(**stamp, to=to)


def _message(kind: type[Message], body: dict[str, Any]) -> Message:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        advice = f"The stage takes a {kind.wire_name()}: send an `input` that is one, or correct what `errors` names."
        raise misfit(error, advice, within="input") from None


def _json(report: reports.Report, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(report), status, headers, "application/json")
