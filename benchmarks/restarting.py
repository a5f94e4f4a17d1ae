"""What a crash of the broker costs: from its SIGKILL to the first job accepted over HTTP, over a bare restart."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import nats
import nats.errors
from pydantic import JsonValue

from actors.journal.server import STEADY_S, EmbeddedServer
from actors.journal.server_config import Identity, is_free, render
from actors.journal.server_process import ServerProcess, find_binary
from benchmarks.bare_append import STREAM, SUBJECT
from benchmarks.estimate import summary
from benchmarks.paired import in_words, over_bare
from benchmarks.progress import tell
from benchmarks.result import Bar, Measure
from benchmarks.wire import Address, Connection

AGAIN_S = 0.005
ACCEPTED = 202
READY_S = 60.0
JOB: JsonValue = {"input": {"text": "Who lets the water in?", "tokens": 1}}


@dataclass(frozen=True, slots=True)
class Restarted:
    """One crash on either side, in seconds."""

    ours: float
    bare: float


class BareServer:
    """nats-server with our configuration, one stream, and nobody who looks after it. An async context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._identity = Identity.new(is_free).with_room(shutil.disk_usage(folder).free // 4)
        self._process: ServerProcess

    async def __aenter__(self) -> Self:
        self._start()
        await self._process.ready(self._identity, within=30)
        client = await nats.connect(self._identity.url)
        stream = {"name": STREAM, "subjects": [SUBJECT], "storage": "file"}
        await client.request(f"$JS.API.STREAM.CREATE.{STREAM}", json.dumps(stream).encode())
        await client.close()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._process.stop()

    async def crash(self) -> float:
        """SIGKILL, and start it at once; seconds to its first synced append."""
        began = time.perf_counter()
        self._process.send(signal.SIGKILL)
        await self._process.wait()
        self._start()
        while not await self._appends():  # noqa: ASYNC110  # it is another process
            await asyncio.sleep(AGAIN_S)
        return time.perf_counter() - began

    def _start(self) -> None:
        config, log = self._folder / "server.conf", self._folder / "nats-server.log"
        config.write_text(render(self._identity, folder=self._folder, log=log))
        self._process = ServerProcess(find_binary(), config, log=log, crash_log=self._folder / "crash.log")

    async def _appends(self) -> bool:
        if is_free(self._identity.port):  # a client that is refused once waits for seconds
            return False
        client = await nats.connect(self._identity.url)
        try:
            return b'"seq"' in (await client.request(SUBJECT, bytes(512), timeout=1)).data
        except nats.errors.Error:
            return False
        finally:
            with suppress(nats.errors.Error):
                await client.close()


async def listens(address: Address) -> None:
    """Once the ingress can store a job."""
    async with asyncio.timeout(READY_S):
        while not await _is_ready(address):  # noqa: ASYNC110  # it is another process
            await asyncio.sleep(AGAIN_S)


async def _is_ready(address: Address) -> bool:
    try:
        connection = await Connection.open(address)
    except OSError:
        return False
    try:
        return (await connection.ask(address.get("/readyz")))[0] == 200
    finally:
        connection.close()


async def crash(server: EmbeddedServer, address: Address, path: str) -> float:
    """SIGKILL of the server under an installation; seconds to the first job that is accepted, whoever restarts it."""
    connection = await Connection.open(address)
    try:
        began = time.perf_counter()
        os.kill(server.pid, signal.SIGKILL)
        while (await connection.ask(address.post(path, JOB)))[0] != ACCEPTED:  # noqa: ASYNC110
            await asyncio.sleep(AGAIN_S)
        return time.perf_counter() - began
    finally:
        connection.close()


async def restart(
    server: EmbeddedServer, bare: BareServer, address: Address, path: str, *, times: int
) -> list[Restarted]:
    """So many crashes on either side, in turns. Ours are so far apart that each is the first in a row."""
    taken = []
    for at in range(times):
        ours = await crash(server, address, path)
        taken.append(Restarted(ours, await bare.crash()))
        tell(f"(c) {at + 1}: {1000 * ours:.0f} ms, bare {1000 * taken[-1].bare:.0f} ms")
        if at + 1 < times:
            await asyncio.sleep(STEADY_S + 1)
    return taken


def restarted(taken: Sequence[Restarted], bar: Bar) -> list[Measure]:
    """(c) SIGKILL of nats-server to the first accepted job, over a bare restart to its first synced append."""
    raw: dict[str, JsonValue] = {
        "accepted": dict(summary([one.ours for one in taken])),
        "bare": dict(summary([one.bare for one in taken])),
    }

    def measure(q: int) -> Measure:
        return Measure(
            part="c",
            question=f"SIGKILL of nats-server to the first accepted job, over a bare restart, p{q}",
            load=f"{len(taken)} kills",
            estimate=over_bare(taken, q),
            bar=bar if q == 50 else None,
            detail=in_words(taken, q),
            raw=raw if q == 50 else {},
        )

    return [measure(50), measure(95)]
