"""Later: jobs that are put off until a time, and which of them are due."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from actors.contracts.subjects import DUE, due_subject, is_job, is_tenant, later_subject
from actors.journal.connection import ApiError, Link, Unanswered
from actors.journal.read import NO_MESSAGE
from actors.journal.topology import LATER

PAGE = 256


@dataclass(frozen=True, slots=True)
class Due:
    """A job whose time has come: the number `n` of the hand-off that was put off, and the message that says so."""

    tenant: str
    job: str
    n: int
    seq: int


class Later:
    """Puts jobs off, by the server's clock; a job has one such time, and the newest counts.

    It only says when to look: what is to be done about the job then, the job's own log says. Source: nats-server,
    ADR-51 (message schedules). Raises Unanswered.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    async def put_off(self, tenant: str, job: str, n: int, until: datetime) -> None:
        """Let the job's hand-off with the number `n` be due at a time; that is on disk when this returns."""
        headers = {
            "Nats-Schedule": f"@at {until.astimezone(UTC).isoformat(timespec='milliseconds').replace('+00:00', 'Z')}",
            "Nats-Schedule-Target": due_subject(tenant, job),
        }
        stored = await self._link.request(later_subject(tenant, job), b"%d" % n, headers=headers)
        answer = json.loads(stored.data)
        if "error" in answer:
            raise Unanswered(f"the job cannot be put off: {answer['error'].get('description', answer['error'])}")

    async def noted(self, tenant: str, job: str) -> int | None:
        """Under which number the newest time of a job is noted; None where none is."""
        try:
            found = await self._link.api(f"STREAM.MSG.GET.{LATER}", {"last_by_subj": later_subject(tenant, job)})
        except ApiError as error:
            if error.code == NO_MESSAGE:
                return None
            raise Unanswered(f"it is not known when a job is due: {error}") from error
        return int(found["message"]["seq"])

    async def strike_out(self, number: int) -> None:
        """What was noted under this number is not to come any more; a time that was noted meanwhile stays."""
        with contextlib.suppress(ApiError):  # it has come, and is gone
            await self._link.api(f"STREAM.MSG.DELETE.{LATER}", {"seq": number, "no_erase": True})

    async def due(self) -> list[Due]:
        """The jobs that are due and not done with, oldest first; some hundreds at most."""
        ask = json.dumps({"seq": 1, "batch": PAGE, "next_by_subj": f"{DUE}>"}).encode()
        messages, _ = await self._link.request_many(f"$JS.API.DIRECT.GET.{LATER}", ask)
        found = []
        for message in messages:
            headers = message.headers or {}
            tenant, job = headers["Nats-Subject"].removeprefix(DUE).split(".")
            if is_tenant(tenant) and is_job(job) and message.data.isdigit():
                found.append(Due(tenant, job, int(message.data), int(headers["Nats-Sequence"])))
        return found

    async def done(self, due: Due) -> None:
        """Somebody has looked after it; a time that was set meanwhile stays."""
        purge = {"filter": due_subject(due.tenant, due.job), "seq": due.seq + 1}
        try:
            await self._link.api(f"STREAM.PURGE.{LATER}", purge)
        except ApiError as error:
            raise Unanswered(f"a job that is due cannot be ticked off: {error}") from error
