"""The HTTP applications on a real server and a real port, and real workers: what Serve runs, without Serve."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from actors.ingress import PATIENCE_S, ingress
from actors.journal import Journal
from actors.journal.topology import JOBS
from actors.results import GRACE_S, results
from actors.runtime.flags import STREAM_LIFE_S
from actors.runtime.replica import Replica
from actors.runtime.settings import Settings
from tests.nats_servers import Servers
from tests.pipelines import PATHS

EVENTS = "/v1/events"


def settings_for(servers: Servers, **more: Any) -> Settings:
    given = {"data": servers.nodes[0].folder / "data", **more}
    return Settings(nats_url=",".join(servers.urls), pipelines=PATHS, max_bytes=1 << 30, **given)


class Front:
    """Gives every request to the application of its route, with the `root_path` that Serve sets."""

    def __init__(self, api: Starlette, events: Starlette) -> None:
        self.api = api
        self.events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await Starlette(lifespan=self._lifespan)(scope, receive, send)
        elif scope["path"].startswith(EVENTS):
            await self.events({**scope, "root_path": EVENTS}, receive, send)
        else:
            await self.api(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for app in (self.api, self.events):
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@asynccontextmanager
async def listening(
    settings: Settings,
    *,
    patience: float = PATIENCE_S,
    stream_life: float = STREAM_LIFE_S,
    grace: float = GRACE_S,
    events: Starlette | None = None,
    port: int = 0,
) -> AsyncIterator[str]:
    """Both applications on this port, or a free one; the URL. They answer at once, with or without a nats-server."""
    events = events or results(settings, stream_life=stream_life, grace=grace)
    front = Front(ingress(settings, patience=patience), events)
    listener = socket.create_server(("127.0.0.1", port))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)  # a reader that does not read shows soon
    config = uvicorn.Config(front, log_config=None, lifespan="on", timeout_graceful_shutdown=2)
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        await server.up.wait()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def served(
    settings: Settings, *, patience: float = PATIENCE_S, stream_life: float = STREAM_LIFE_S, grace: float = GRACE_S
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of both applications, once a job can be stored."""
    listens = listening(settings, patience=patience, stream_life=stream_life, grace=grace)
    async with listens as url, httpx.AsyncClient(base_url=url, timeout=20) as http:
        await until_ready(http)
        yield http


async def until_ready(http: httpx.AsyncClient) -> None:
    """Until a job can be stored, and it is known who may come in."""
    async with asyncio.timeout(20):
        for path in ("/readyz", "/v1/pipelines"):
            while (await http.get(path)).status_code == 503:  # noqa: ASYNC110  # it is what others have, too
                await asyncio.sleep(0.02)


@asynccontextmanager
async def working(settings: Settings, *stages: str) -> AsyncIterator[None]:
    """A worker for each of these stages."""
    replicas = [Replica(settings, stage) for stage in stages]
    running = [asyncio.create_task(replica.run()) for replica in replicas]
    try:
        yield
    finally:
        await asyncio.gather(*(replica.stop(1.0) for replica in replicas))
        async with asyncio.timeout(10):
            await asyncio.gather(*running)


async def stored(journal: Journal) -> int:
    """How many messages the log has."""
    return cast(int, (await journal.signals.api(f"STREAM.INFO.{JOBS}"))["state"]["messages"])


@dataclass(frozen=True)
class Sent:
    """One server-sent event."""

    id: str
    kind: str
    data: dict[str, Any]

    @property
    def n(self) -> int:
        return cast(int, self.data["n"])


@dataclass
class Heard:
    """What one connection of a reader brought."""

    status: int
    headers: httpx.Headers
    events: list[Sent] = field(default_factory=list)
    retry_ms: int | None = None
    comments: int = 0


async def hear(http: httpx.AsyncClient, job: str, *, last: str | None = None, after: str | None = None) -> Heard:
    """Read a stream of events to its end."""
    headers = {"Last-Event-ID": last} if last is not None else {}
    params = {"after": after} if after is not None else {}
    async with http.stream("GET", f"{EVENTS}/{job}", headers=headers, params=params) as response:
        heard = Heard(response.status_code, response.headers)
        if response.status_code != 200:
            await response.aread()
            return heard
        fields: dict[str, str] = {}
        async for line in response.aiter_lines():
            name, _, value = line.partition(":")
            if not line:
                if "data" in fields:
                    heard.events.append(Sent(fields["id"], fields["event"], json.loads(fields["data"])))
                fields = {}
            elif not name:
                heard.comments += 1
            elif name == "retry":
                heard.retry_ms = int(value)
            else:
                fields[name] = value.removeprefix(" ")
        return heard
