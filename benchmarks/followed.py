"""A job as somebody outside saw it: submitted, and followed to its outcome."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from benchmarks.generated import Generated
from benchmarks.wire import Address, Connection

STAMPED = (b"handoff", b"step.started", b"delta")


@dataclass(slots=True)
class Followed:
    """When what happened, in seconds since 1970, because the writers' own stamps are to be compared with it.

    `stamps` has, for each kind of event, when each was written, as its writer said; of deltas only the first.
    """

    posted: float
    accepted: float = 0.0
    first: float = 0.0
    last: float = 0.0
    ended: float = 0.0
    deltas: int = 0
    tokens: int = 0
    answer: dict[str, JsonValue] = field(default_factory=dict)
    stamps: dict[str, list[float]] = field(default_factory=dict)

    @property
    def generated(self) -> Generated:
        """The same as if an engine alone had been asked."""
        return Generated(self.posted, self.first, self.last, self.tokens)


class Client:
    """Submits jobs and follows them, over as many connections as there are jobs under way."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: list[Connection] = []

    async def follow(self, pipeline: str, message: dict[str, JsonValue]) -> Followed:
        """Submit a job and read its events to the outcome. Raises RuntimeError when it does not come to its answer."""
        connection = await self._connection()
        request = self._address.post(f"/v1/pipelines/{pipeline}/jobs", {"input": message})
        seen = Followed(posted=time.time())
        status, body = await connection.ask(request)
        seen.accepted = time.time()
        if status != 202:
            raise RuntimeError(f"a job was answered {status}: {body[:500]!r}")
        reader = EventReader(seen)
        status = await connection.stream(self._address.get(f"/v1/events/{json.loads(body)['id']}"), reader.feed)
        if status != 200 or not seen.answer:
            raise RuntimeError(f"a job was not completed: {status}, {bytes(reader.rest[-500:])!r}")
        self._idle.append(connection)
        return seen

    def close(self) -> None:
        for connection in self._idle:
            connection.close()

    async def _connection(self) -> Connection:
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
        return await Connection.open(self._address)


class EventReader:
    """Takes server-sent events apart, and looks into no more of them than it must."""

    def __init__(self, seen: Followed) -> None:
        self._seen = seen
        self.rest = bytearray()

    def feed(self, data: bytes) -> None:
        now = time.time()
        self.rest += data
        *frames, self.rest = self.rest.split(b"\n\n")
        for frame in frames:
            self._take(frame, now)

    def _take(self, frame: bytearray, now: float) -> None:
        _, found, rest = frame.partition(b"event: ")
        if not found:
            return
        kind, _, data = rest.partition(b"\ndata: ")
        seen = self._seen
        if kind == b"delta":
            seen.deltas += 1
            seen.last = now
            if seen.first:
                return
            seen.first = now
        if kind in STAMPED:
            seen.stamps.setdefault(kind.decode(), []).append(_instant(json.loads(data)["at"]))
        elif kind == b"completed":
            said = json.loads(data)
            seen.ended, seen.answer, seen.tokens = now, said["answer"], said["usage"]["output_tokens"]


def _instant(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
