"""Receivers of webhooks: real HTTP servers on loopback, and the actor that carries deliveries to them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from openai import OpenAI
from standardwebhooks.webhooks import Webhook

from actors.contracts.delivery import SCHEDULE
from actors.webhooks import Webhooks
from tests.nats_servers import Servers
from tests.serving import settings_for

BACKSTOP_S = 30.0
LOOPBACK = "127.0.0.0/8"


@dataclass(frozen=True)
class Got:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> Self:
        """The request that comes on a connection. Raises what breaks it off."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        return cls(head[0].split()[1], headers, await reader.readexactly(int(headers["content-length"])))

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """What it says, by Standard Webhooks' own library. Raises what that raises."""
        return Webhook(secret).verify(self.body, self.headers)

    def unwrapped(self, secret: str) -> Any:
        """What it says, by OpenAI's own client."""
        return OpenAI(api_key="none").webhooks.unwrap(self.body, self.headers, secret=secret)


@dataclass
class Receiver:
    """Keeps what it is sent, and answers with `statuses` in order, the last for ever; only while it is `opened`."""

    statuses: list[int] = field(default_factory=lambda: [200])
    headers: str = ""
    port: int = 0
    got: list[Got] = field(default_factory=list)
    connects: int = 0
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.opened.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def until(self, wanted: Callable[[list[Got]], bool]) -> list[Got]:
        """What it was sent, once that is wanted."""
        async with asyncio.timeout(BACKSTOP_S):
            while not wanted(self.got):
                self._news.clear()
                await self._news.wait()
        return self.got

    async def times(self, number: int) -> list[Got]:
        """What it was sent, once that is so many requests."""
        return await self.until(lambda got: len(got) >= number)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects += 1
        try:
            self.got.append(await Got.read(reader))
            self._news.set()
            await self.opened.wait()
            status = self.statuses[min(len(self.got), len(self.statuses)) - 1]
            writer.write(f"HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n{self.headers}\r\n".encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever asked was killed
        finally:
            writer.close()


@asynccontextmanager
async def receiving(*statuses: int, headers: str = "") -> AsyncIterator[Receiver]:
    """A receiver that answers so."""
    receiver = Receiver(list(statuses) or [200], headers)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        receiver.opened.set()
        server.close()


@asynccontextmanager
async def carried(
    servers: Servers, *, schedule: Sequence[float] = SCHEDULE, allow: str = LOOPBACK, **seams: Any
) -> AsyncIterator[Webhooks]:
    """The actor, cut off where this ends: what is under way then is not finished."""
    actor = Webhooks(settings_for(servers, egress_allow=allow), schedule=schedule, **seams)
    running = asyncio.create_task(actor.run())
    try:
        yield actor
    finally:
        running.cancel()
        await asyncio.wait({running})
        if not running.cancelled() and (error := running.exception()):
            raise error


ACTOR = """
import asyncio
from actors.runtime.settings import Settings
from actors.webhooks import Webhooks
asyncio.run(Webhooks(Settings()).run())
"""


@contextmanager
def carried_elsewhere(servers: Servers) -> Iterator[subprocess.Popen[bytes]]:
    """The actor in a process of its own, which is killed where this ends, if a test did not do it before."""
    told = {"HEADRACE_NATS_URL": ",".join(servers.urls), "HEADRACE_EGRESS_ALLOW": LOOPBACK}
    process = subprocess.Popen([sys.executable, "-c", ACTOR], env={**os.environ, **told})
    try:
        yield process
    finally:
        process.kill()
        process.wait()
