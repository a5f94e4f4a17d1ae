"""The audit log, read in order: its entries, and the places where some should be."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from nats.aio.msg import Msg

from actors.contracts.events import Record
from actors.contracts.subjects import Subject
from actors.journal.connection import ApiError, Link, Unanswered
from actors.journal.read import PAGE, PAGE_BYTES
from actors.journal.topology import AUDIT, JOBS

EVERYTHING = ">"
SOURCE = "Nats-Stream-Source"
NOT_THERE = (10037, 10043)
"""There is no such message; or there is one that cannot be read."""

NO_STREAM = 10059
NEARLY_FULL = 0.9


@dataclass(frozen=True, slots=True)
class Entry:
    """A fact as the audit log keeps it: its place there, and the record that it is a copy of.

    `source` is where it came from, in the server's words; bytes that came another way have no `record`. `from_leader`
    says that the copy of the log that was read did not show it.
    """

    seq: int
    stored_at: datetime
    source: str
    data: bytes
    record: Record | None = field(compare=False)
    from_leader: bool = field(default=False, compare=False)

    @property
    def job(self) -> str:
        """The job's id; empty for what is no fact of a job."""
        return Subject.parse(self.record.subject).job if self.record else ""


@dataclass(frozen=True, slots=True)
class Hole:
    """Entries that should be there and are not: the server lost or deleted them.

    What they were copies of lies in `JOBS` between `after` and `before` (0: their neighbours do not tell).
    """

    first: int
    last: int
    after: int
    before: int


@dataclass(frozen=True, slots=True)
class Span:
    """How far the audit log reaches, as its leader knows it.

    `lag` is about how many facts of `JOBS` are still to come (one that is refused for room does not count), and
    `trouble` why they do not, if the server says so.
    """

    first: int
    last: int
    lag: int
    bytes: int
    max_bytes: int
    max_age: float
    trouble: str

    @property
    def is_full(self) -> bool:
        """Whether it has no room, or hardly any: then it stops, and what is in `JOBS` alone must not be forgotten."""
        return 0 < self.max_bytes * NEARLY_FULL <= self.bytes


class NoTrail(ApiError):
    """There is no audit log on this server."""


class Trail:
    """Reads the audit log by direct get; what a replica does not show is asked of the leader before it is a hole.

    Raises Unanswered when there is no answer.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    async def span(self) -> Span:
        """Raises NoTrail."""
        try:
            info = await self._link.api(f"STREAM.INFO.{AUDIT}")
        except ApiError as error:
            if error.code == NO_STREAM:
                raise NoTrail(error.code, "there is no audit log here; is it the right server?") from error
            raise Unanswered(f"the audit log cannot be read: {error}") from error
        state, config, [source] = info["state"], info["config"], info.get("sources") or [{}]
        return Span(
            first=state["first_seq"],
            last=state["last_seq"],
            lag=source.get("lag", 0),
            bytes=state["bytes"],
            max_bytes=max(config["max_bytes"], 0),
            max_age=config["max_age"] / 1e9,
            trouble=source.get("error", {}).get("description", ""),
        )

    async def read(self, after: int, upto: int) -> AsyncIterator[Entry | Hole]:
        """The entries over `after`, up to `upto`, in order; every sequence is in one of the entries or holes."""
        expected, source = after + 1, 0
        while expected <= upto:
            page = [entry for entry in await self._page(expected) if entry.seq <= upto]
            if not page or page[0].seq > expected:
                found = await self._found(expected, page[0].seq if page else upto + 1)
                page = [found] if found else page
            if not page:
                yield Hole(expected, upto, source, 0)
                return
            for entry in page:
                if entry.seq > expected:
                    if entry is not page[0]:
                        break  # the leader may have what this replica lacks
                    yield Hole(expected, entry.seq - 1, source, entry.record.seq if entry.record else 0)
                source = entry.record.seq if entry.record else source
                expected = entry.seq + 1
                yield entry

    async def _page(self, start: int) -> list[Entry]:
        ask = json.dumps({"seq": start, "batch": PAGE, "max_bytes": PAGE_BYTES, "next_by_subj": EVERYTHING}).encode()
        messages, end = await self._link.request_many(f"$JS.API.DIRECT.GET.{AUDIT}", ask)
        status = (end.headers or {}).get("Status")
        if status not in ("204", "404"):
            raise Unanswered(f"the audit log cannot be read: {status} {(end.headers or {}).get('Description', '')}")
        return [_entry(message) for message in messages]

    async def _found(self, start: int, end: int) -> Entry | None:
        """The first entry from `start` to before `end` that the leader can read. One that it cannot is stepped over."""
        for seq in range(start, end):
            found = await self._from_leader({"seq": seq, "next_by_subj": EVERYTHING})
            if found:
                return found if found.seq < end else None
            with contextlib.suppress(IndexError):
                later = (await self._page(seq + 1))[0]
                return later if later.seq < end else None
        return None

    async def _from_leader(self, which: dict[str, object]) -> Entry | None:
        try:
            found = (await self._link.api(f"STREAM.MSG.GET.{AUDIT}", which))["message"]
        except ApiError as error:
            if error.code in NOT_THERE:
                return None
            raise Unanswered(f"the audit log cannot be read: {error}") from error
        headers = _headers(base64.b64decode(found.get("hdrs", "")))
        data, at = base64.b64decode(found.get("data", "")), datetime.fromisoformat(found["time"])
        return replace(_made(int(found["seq"]), at, headers.get(SOURCE, ""), data), from_leader=True)


def _entry(message: Msg) -> Entry:
    headers: Mapping[str, str] = message.headers or {}
    at = datetime.fromisoformat(headers["Nats-Time-Stamp"])
    return _made(int(headers["Nats-Sequence"]), at, headers.get(SOURCE, ""), message.data)


def _made(seq: int, at: datetime, source: str, data: bytes) -> Entry:
    return Entry(seq, at, source, data, record_in(source, data, at))


def record_in(source: str, data: bytes, at: datetime | None = None) -> Record | None:
    """The record that an entry is a copy of; None for bytes that came another way.

    `source` is `<stream> <sequence> <filter> <destination> <subject> …`. Only the server writes it.
    Source: nats-server 2.15, stream.go; a publisher who tries is refused (10227).
    """
    try:
        stream, origin, _, _, subject, *_ = source.split(" ")
        if stream != JOBS:
            return None
        Subject.parse(subject)
        return Record(int(origin), subject, data, at)
    except ValueError:
        return None


def _headers(block: bytes) -> dict[str, str]:
    """The fields of a stored header block, which begins with its version."""
    lines = block.decode(errors="replace").split("\r\n")[1:]
    return {name: value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}
