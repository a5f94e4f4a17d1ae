"""The history of a job over HTTP: its events as they are stored."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from actors.contracts.events import Record
from actors.contracts.subjects import is_job
from actors.http.caller import Owned, caller_of
from actors.http.problem import BAD_PLACE, Refusal, unknown_job
from actors.journal import Journal
from actors.journal.journal import PatientJournal

READ_PATIENCE_S = 1.0
MEDIA_TYPE = "application/x-ndjson"


class History:
    """Shows the log of a job line by line, inputs, token ids and digests included: whoever owns it may read it all."""

    def __init__(self, log: PatientJournal) -> None:
        self._log = log

    @property
    def routes(self) -> list[BaseRoute]:
        return [Route("/v1/jobs/{id}/log", self.lines)]

    async def lines(self, request: Request) -> Response:
        """Everything that is stored of a job by now and lies after `after`, a sequence number; one event per line.

        It is read page by page while it is sent. An answer that breaks off is asked for again, after its last line.
        """
        id, after = request.path_params["id"], _after(request)
        if not is_job(id):
            raise unknown_job(id)
        journal = await self._log.connected(READ_PATIENCE_S)
        job = Owned(await caller_of(request).owner(journal.reader, id), id)
        if (last := await journal.reader.last(*job)) is None:
            raise unknown_job(id)
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(_lines(journal, job, after, last), headers=headers, media_type=MEDIA_TYPE)


async def _lines(journal: Journal, job: Owned, after: int, last: Record) -> AsyncIterator[bytes]:
    more = True
    while more:
        page, more = await journal.reader.page(*job, after=after)
        for record in page:
            if record.seq > last.seq:
                return
            yield _line(record)
            after = record.seq
    for record in await journal.reader.rest(*job, after=after, at_least=last.seq):
        yield _line(record)


def _line(record: Record) -> bytes:
    """Where and when it is stored, and the stored bytes as they are; what is no JSON is there as a string."""
    head = to_json({"sequence": record.seq, "subject": record.subject, "stored": record.stored_at})
    return head[:-1] + b',"event":' + (record.data if _is_one_line(record.data) else _quoted(record.data)) + b"}\n"


def _is_one_line(data: bytes) -> bool:
    try:
        from_json(data)
    except ValueError:
        return False
    return b"\n" not in data


def _quoted(data: bytes) -> bytes:
    return to_json(data.decode(errors="replace"))


def _after(request: Request) -> int:
    """Raises Refusal."""
    said = request.query_params.get("after", "0")
    if not (said.isascii() and said.isdecimal() and len(said) <= 18):
        raise Refusal(BAD_PLACE, "Send the `sequence` of the last line you have as ?after=, or leave it out.")
    return int(said)
