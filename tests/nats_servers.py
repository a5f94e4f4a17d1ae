"""Real nats-servers for tests: one alone (R1), and three as a cluster (R3), that tests may kill and start again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest
import pytest_asyncio
from nats.aio.client import Client

from actors.journal.server_config import HOST, Identity, free_ports, is_free, render
from actors.journal.server_process import ServerProcess, ask, find_binary

READY_S = 30.0
POLL_S = 0.01
ROOM = 200 << 30
"""The tests' disk only has to hold what they store; this is what streams may reserve."""


@dataclass
class Node:
    """One nats-server, always on the same ports and the same data."""

    identity: Identity
    folder: Path
    extra: str = ""
    sync: str = "always"
    process: ServerProcess | None = None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.is_running

    @property
    def pid(self) -> int:
        assert self.process is not None, "this server was never started"
        return self.process.pid

    def spawn(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config, log = self.folder / "server.conf", self.folder / "nats-server.log"
        config.write_text(render(self.identity, folder=self.folder, log=log, sync=self.sync) + self.extra)
        crash_log = self.folder / "nats-server.crash.log"
        self.process = ServerProcess(find_binary(), config, log=log, crash_log=crash_log)

    async def leads(self, stream: str) -> bool:
        """Whether it thinks itself that it leads a stream; those that follow may be behind."""
        held = await self._held(stream)
        return held is not None and held["cluster"].get("leader") == self.identity.name

    async def state_of(self, stream: str) -> dict[str, Any] | None:
        """What it holds of a stream itself; None while it cannot say."""
        held = await self._held(stream)
        return held["state"] if held else None

    async def _held(self, stream: str) -> dict[str, Any] | None:
        if not self.is_running:
            return None
        try:
            page = await ask(self.identity, "/jsz?accounts=true&streams=true")
        except (OSError, ValueError):
            return None
        streams = [detail for account in page["account_details"] for detail in account.get("stream_detail") or []]
        return next((detail for detail in streams if detail["name"] == stream), None)

    async def ready(self) -> None:
        assert self.process is not None, "this server was never started"
        await self.process.ready(self.identity, within=READY_S)

    async def kill(self) -> None:
        """SIGKILL; it is gone when this returns."""
        if self.process is not None:
            self.process.send(signal.SIGKILL)
            await self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP; nothing of it moves when this returns."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """SIGCONT, after which it may stop or go on."""
        if self.is_running:
            os.kill(self.pid, signal.SIGCONT)

    async def stop(self) -> None:
        """SIGTERM; it is gone when this returns."""
        if self.process is not None:
            await self.process.stop()


class Servers:
    """One or three nats-servers that hold streams together; `replicas` is how many copies a stream can have.

    Every method works from any event loop. Servers are named by their place in `nodes` and `urls`.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)

    @property
    def replicas(self) -> int:
        return len(self.nodes)

    @property
    def url(self) -> str:
        return self.nodes[0].identity.url

    @property
    def urls(self) -> list[str]:
        return [node.identity.url for node in self.nodes]

    @property
    def sys_urls(self) -> list[str]:
        return [node.identity.sys_url for node in self.nodes]

    async def kill(self, index: int = 0) -> None:
        """SIGKILL one of them. It stays down until it is started."""
        await self.nodes[index].kill()

    def freeze(self, index: int = 0) -> None:
        """SIGSTOP one of them: it keeps its connections and answers nobody."""
        self.nodes[index].freeze()

    def thaw(self, index: int = 0) -> None:
        """Let one of them go on."""
        self.nodes[index].thaw()

    async def stop(self, index: int = 0) -> None:
        """SIGTERM one of them. It stays down until it is started."""
        await self.nodes[index].stop()

    async def start(self, *indices: int) -> None:
        """Start these, or all that are down, on the ports they had; they serve when this returns.

        A cluster serves when most of it runs.
        """
        wanted = [self.nodes[index] for index in indices] or self.nodes
        for node in wanted:
            if not node.is_running:
                node.spawn()
        await asyncio.gather(*(node.ready() for node in wanted))

    async def close(self) -> None:
        await asyncio.gather(*(node.kill() for node in self.nodes))

    async def leader_of(self, stream: str) -> int:
        """Which of them leads a stream; waits for an election to end."""
        async with asyncio.timeout(READY_S):
            while True:
                for index, node in enumerate(self.nodes):
                    if await node.leads(stream):
                        return index
                await asyncio.sleep(POLL_S)

    async def agree_on(self, stream: str) -> None:
        """Wait until every one of them holds the same of a stream: one that is behind shows what is gone already."""
        async with asyncio.timeout(READY_S):
            while True:
                states = [await node.state_of(stream) for node in self.nodes]
                if states[0] and all(state == states[0] for state in states):
                    return
                await asyncio.sleep(POLL_S)

    async def clear(self) -> None:
        """Delete every stream; servers that are down or frozen are started first."""
        for node in self.nodes:
            if node.process is not None:
                node.thaw()
        await self.start()
        client = await nats.connect(self.urls)
        try:
            async with asyncio.timeout(READY_S):
                while names := (await _call(client, "STREAM.NAMES")).get("streams"):
                    await asyncio.gather(*(_call(client, f"STREAM.DELETE.{name}") for name in names))
        finally:
            await client.close()


def lone(folder: Path, *, sync: str = "always") -> Servers:
    """One server, not yet started."""
    return Servers([Node(Identity.new(is_free).model_copy(update={"room": ROOM}), folder, sync=sync)])


def cluster(folder: Path, size: int = 3) -> Servers:
    """Servers that form a cluster, not yet started."""
    shared = Identity.new(is_free).model_copy(update={"room": ROOM})
    ports = free_ports(3 * size, is_free)
    routes = ", ".join(f'"nats://{HOST}:{port}"' for port in ports[::3])
    nodes = []
    for index in range(size):
        route, port, monitor_port = ports[3 * index : 3 * index + 3]
        own = {"name": f"node-{index}", "port": port, "monitor_port": monitor_port}
        extra = f'cluster {{ name: tests, no_advertise: true, listen: "{HOST}:{route}", routes: [{routes}] }}\n'
        nodes.append(Node(shared.model_copy(update=own), folder / str(index), extra))
    return Servers(nodes)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_r1(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    async with _running(lone(tmp_path_factory.mktemp("r1"))) as servers:
        yield servers


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_r3(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    async with _running(cluster(tmp_path_factory.mktemp("r3"))) as servers:
        yield servers


@pytest_asyncio.fixture
async def r1(shared_r1: Servers) -> AsyncIterator[Servers]:
    """One server, without streams; a test may kill it."""
    yield shared_r1
    await shared_r1.clear()


@pytest_asyncio.fixture
async def r3(shared_r3: Servers) -> AsyncIterator[Servers]:
    """A cluster of three, without streams; a test may kill some of it."""
    yield shared_r3
    await shared_r3.clear()


@pytest.fixture(params=["r1", "r3"])
def servers(request: pytest.FixtureRequest) -> Servers:
    """The test runs twice: on one server and on a cluster of three."""
    found: Servers = request.getfixturevalue(request.param)
    return found


@asynccontextmanager
async def _running(servers: Servers) -> AsyncIterator[Servers]:
    try:
        await servers.start()
        yield servers
    finally:
        await servers.close()


async def _call(client: Client, call: str) -> dict[str, Any]:
    """A JetStream API call, asked again while the cluster has nobody to answer it."""
    while True:
        try:
            answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{call}", timeout=1)).data)
        except nats.errors.Error:
            await asyncio.sleep(POLL_S)
        else:
            return answer
