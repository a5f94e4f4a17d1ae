"""The desks that a crowd asks at: a synchronous endpoint, Headrace, and a queue whose answers are asked for."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Set

from benchmarks.crowd import Asked
from benchmarks.followed import EventReader, Followed
from benchmarks.task_front import DONE, FAILED
from benchmarks.wire import Address, Connection

TIME_OUT_S = 10.0
"""How long whoever stands between a user and a server waits for the answer to a POST."""

JOB_S = 240.0
"""How long a job may take to be followed to its end: a backstop."""

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 4.0
"""Between two looks at a task."""

ACCEPTED = frozenset({200, 202})
"""A job is stored; 200 where the ingress had to look whether its append had been, as the log was slow to answer."""

TIMED_OUT, COME_BACK = "time-out", "429"


class SynchronousDesk:
    """The answer to the POST is the answer."""

    def __init__(self, address: Address, path: str, body: object) -> None:
        self._address = address
        self._request = address.post(path, body)
        self._busy = address.get(path)

    async def ask(self, asked: Asked) -> None:
        connection = await _post(self._address, self._request, {200}, asked)
        if connection:
            connection[0].close()
            asked.ended = time.time()

    async def idle(self) -> None:
        while await self._requests_inside() != 0:  # noqa: ASYNC110  # it is in another process
            await asyncio.sleep(0.1)

    async def _requests_inside(self) -> int | None:
        """How many requests are being worked on; None while it is not up yet."""
        connection = await Connection.open(self._address)
        status, body = await connection.ask(self._busy)
        connection.close()
        return int(json.loads(body)["requests"]) if status == 200 else None


class HeadraceDesk:
    """The answer to the POST is a job's id; its events are followed to the outcome."""

    def __init__(self, address: Address, pipeline: str, body: object) -> None:
        self._address = address
        self._request = address.post(f"/v1/pipelines/{pipeline}/jobs", body)

    async def ask(self, asked: Asked) -> None:
        posted = await _post(self._address, self._request, ACCEPTED, asked)
        if not posted:
            return
        connection, body = posted
        seen = Followed(posted=asked.sent)
        try:
            async with asyncio.timeout(JOB_S):
                events = self._address.get(f"/v1/events/{json.loads(body)['id']}")
                await connection.stream(events, EventReader(seen).feed)
        except (TimeoutError, ConnectionError) as error:
            asked.trouble = f"not followed: {type(error).__name__}"
        else:
            asked.trouble = "" if seen.answer else "no answer"
        asked.first, asked.ended = seen.first, seen.ended
        connection.close()

    async def idle(self) -> None:
        """At once: every job was followed to its end."""


class PollingDesk:
    """The answer to the POST is a task's id; its result is asked for until it is there.

    As often as a thoughtful client would: whoever has waited longer asks more seldom, as a quarter more is not much.
    """

    def __init__(self, address: Address, path: str, body: object) -> None:
        self._address = address
        self._path = path
        self._request = address.post(path, body)

    async def ask(self, asked: Asked) -> None:
        posted = await _post(self._address, self._request, ACCEPTED, asked)
        if not posted:
            return
        connection, body = posted
        look = self._address.get(f"{self._path}{json.loads(body)['id']}")
        try:
            async with asyncio.timeout(JOB_S):
                state = await _poll(connection, look, asked)
        except (TimeoutError, ConnectionError) as error:
            asked.trouble = f"not followed: {type(error).__name__}"
        else:
            asked.trouble = "" if state == DONE else "no answer"
        asked.ended = time.time()
        connection.close()

    async def idle(self) -> None:
        """At once when it is up: every task was followed to its end."""
        while await self._status() != 200:  # noqa: ASYNC110  # it is in another process
            await asyncio.sleep(0.1)

    async def _status(self) -> int:
        connection = await Connection.open(self._address)
        status, _ = await connection.ask(self._address.get(f"{self._path}of-nobody"))
        connection.close()
        return status


async def _poll(connection: Connection, look: bytes, asked: Asked) -> str:
    """The state in which a task ended."""
    while True:
        await asyncio.sleep(min(max((time.time() - asked.sent) / 4, SHORTEST_PAUSE_S), LONGEST_PAUSE_S))
        status, body = await connection.ask(look)
        if status == 200 and (state := json.loads(body)["state"]) in (DONE, FAILED):
            return str(state)


async def _post(address: Address, request: bytes, wanted: Set[int], asked: Asked) -> tuple[Connection, bytes] | None:
    """The connection and the body of the answer with a wanted status; what else came is the question's trouble."""
    connection = None
    try:
        async with asyncio.timeout(TIME_OUT_S):
            connection = await Connection.open(address)
            status, body = await connection.ask(request)
        asked.trouble = "" if status in wanted else str(status)
    except TimeoutError:
        asked.trouble = TIMED_OUT
    except OSError as error:
        asked.trouble = type(error).__name__
    asked.posted_s = time.time() - asked.sent
    if asked.trouble and connection:
        connection.close()
    return (connection, body) if connection and not asked.trouble else None
