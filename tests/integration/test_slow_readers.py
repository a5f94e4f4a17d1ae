"""Readers that do not read, take a byte at a time or break off: hundreds of them are nobody else's business."""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from random import Random

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from actors.client import AsyncHeadrace
from actors.contracts.events import Completed, Delta, StepStarted
from actors.contracts.messages import Packed
from actors.http.door import behind_door
from actors.http.problem import Refusal
from actors.journal import Journal
from actors.journal.follow import Follower
from actors.journal.mailbox import MOST_HELD, MOST_ITEMS
from actors.replies import Delta as Heard
from actors.replies import Event
from actors.results import Results
from tests.nats_servers import Servers
from tests.scribe import Note, Scribe
from tests.serving import EVENTS, listening, settings_for, until_ready

DEAD, SIPPING, BREAKING = 400, 60, 40
"""Readers that take nothing, a byte for each event, and nothing before their connection is reset."""

JOBS = 5
"""Every kind of reader is on each of them; an honest one is on the first."""

PIECES = 2 * MOST_ITEMS
PIECE = "x" * 2_000
BACKSTOP_S = 50.0


@pytest.fixture(autouse=True)
def _enough_files() -> Iterator[None]:
    """Both ends of every connection are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4_096, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def a_reader(url: str, job: str) -> Iterator[socket.socket]:
    """A connection that has asked for the events of a job, and takes none of them by itself."""
    where = httpx.URL(url)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect((where.host, where.port))
        connection.sendall(f"GET {EVENTS}/{job} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        connection.setblocking(False)
        yield connection


async def has_begun(connection: socket.socket) -> None:
    """Once its stream is there, of which nothing is taken."""
    loop = asyncio.get_running_loop()
    while True:
        came = asyncio.Event()
        loop.add_reader(connection, came.set)
        await came.wait()
        loop.remove_reader(connection)
        if b"step.started" in connection.recv(4_096, socket.MSG_PEEK):
            return


def reset(connection: socket.socket) -> None:
    """End it without a FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Honest:
    """A reader that takes everything as it comes."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._news = asyncio.Condition()

    async def read(self, url: str, job: str) -> None:
        async with AsyncHeadrace(url) as client:
            async for event in client.events(job):
                async with self._news:
                    self.events.append(event)
                    self._news.notify_all()

    async def has(self, n: int) -> None:
        async with self._news:
            await self._news.wait_for(lambda: self.events and self.events[-1].n >= n)


@asynccontextmanager
async def a_result_actor(servers: Servers) -> AsyncIterator[tuple[str, Results]]:
    settings = settings_for(servers)
    actor = Results(settings, stream_life=300.0, grace=5.0, rng=Random(1))
    events = Starlette(routes=[Route("/{id}", actor.events)], lifespan=actor.running)
    behind_door(events, actor.keyring, settings.origins, lambda _: Refusal.answer)
    async with listening(settings, events=events) as url, httpx.AsyncClient(base_url=url) as http:
        await until_ready(http)
        yield url, actor


async def test_five_hundred_dead_and_slow_readers_hold_up_nobody_and_hold_little(
    r1: Servers, journal_r1: Journal
) -> None:
    jobs = [Scribe(journal_r1.appender) for _ in range(JOBS)]
    for job in jobs:
        await job.hand_off("recite")
        await job.write(StepStarted, stage="recite", attempt=1, claim="c", worker="w", ack="a")
    honest = Honest()
    async with asyncio.timeout(BACKSTOP_S), AsyncExitStack() as stack:
        url, actor = await stack.enter_async_context(a_result_actor(r1))
        readers = [
            stack.enter_context(a_reader(url, jobs[at % JOBS].address.job)) for at in range(DEAD + SIPPING + BREAKING)
        ]
        sipping, breaking = readers[:SIPPING], readers[SIPPING : SIPPING + BREAKING]
        reading = asyncio.create_task(honest.read(url, jobs[0].address.job))
        await asyncio.gather(honest.has(2), *(has_begun(reader) for reader in readers))
        follower = actor._follower
        assert follower is not None
        assert (len(follower.mailboxes), follower.watched) == (len(readers) + 1, JOBS)

        sipped = [bytearray() for _ in sipping]
        for at in range(PIECES):
            await asyncio.gather(*(say(job, at) for job in jobs))
            await honest.has(jobs[0].chain.n)  # each event by itself, and before the next one is even written
            for reader, got in zip(sipping, sipped, strict=True):
                got += reader.recv(1)
            assert_bounded(follower)
            if at == PIECES // 2:
                for reader in breaking:
                    reset(reader)
        for job in jobs:
            await job.write(Completed, origin=job.origin, answer=Packed.of(Note(text="done")))
        await reading

        assert [event.n for event in honest.events] == list(range(1, PIECES + 4))
        assert "".join(e.text for e in honest.events if isinstance(e, Heard)) == "".join(map(piece, range(PIECES)))
        assert all(len(got) == PIECES and got.startswith(b"HTTP/1.1 200 OK") for got in sipped)
        while len(follower.mailboxes) > DEAD + SIPPING:  # noqa: ASYNC110  # it is what those who broke off leave behind
            await asyncio.sleep(0.01)
        assert sum(len(mailbox) for mailbox in follower.mailboxes) == 0, "what nobody took is still held"
        for reader in readers:
            reader.close()
        while follower.watched:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def piece(at: int) -> str:
    return f"{at:05}{PIECE}"


async def say(job: Scribe, at: int) -> None:
    await job.write(Delta, stage="recite", text=piece(at), tokens=(at,), from_=at)


def assert_bounded(follower: Follower) -> None:
    """No reader holds more than it may, however little it takes."""
    assert all(len(mailbox) <= MOST_ITEMS and mailbox.held <= MOST_HELD for mailbox in follower.mailboxes)
