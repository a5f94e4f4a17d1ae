"""The result actor is killed under a crowd of readers: all come back at once, and none misses or repeats an event.

`make chaos READERS=2000` lets more come.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from actors.client import AsyncHeadrace
from actors.journal import Journal
from actors.journal.server_config import free_ports, is_free
from actors.journal.topology import ensure
from actors.replies import Delta, Event
from tests.chaos.checker import unlike
from tests.chaos.crew import ACK_WAIT_S, Crew, Post
from tests.chaos.history import Pen
from tests.chaos.stories import story
from tests.chaos.users import STUBBORN
from tests.nats_servers import Servers

READERS = int(os.environ.get("READERS") or 200)
JOBS = 20
BACKSTOP_S = 300.0


class Crowd:
    """Readers, some of each job; each notes what it saw, and how many have seen anything."""

    def __init__(self, client: AsyncHeadrace) -> None:
        self._client = client
        self._here = 0
        self._came = asyncio.Event()

    async def read(self, job: str) -> list[tuple[int, str, str]]:
        seen: list[tuple[int, str, str]] = []
        async for event in self._client.events(job):
            if not seen:
                self._here += 1
                self._came.set()
            seen.append(_what(event))
        return seen

    async def all_here(self) -> None:
        while self._here < READERS:
            self._came.clear()
            await self._came.wait()


def _what(event: Event) -> tuple[int, str, str]:
    return event.n, event.kind, event.text if isinstance(event, Delta) else ""


@pytest.mark.chaos
@pytest.mark.timeout(BACKSTOP_S + 60)
async def test_a_crowd_that_comes_back_at_once_misses_nothing(r1: Servers, tmp_path: Path) -> None:
    [port] = free_ports(1, is_free)

    def post(name: str, role: str) -> Post:
        return Post(name, role, tuple(r1.urls), tuple(r1.sys_urls), 1, tmp_path, port)

    async with Journal.open(r1.urls, "checker") as journal:
        await ensure(journal.signals, ["fetch", "deliver"], max_bytes=8 << 30, ack_wait=ACK_WAIT_S)
        async with (
            Crew([post("front", "front")], Pen(tmp_path)) as fronts,
            AsyncHeadrace(f"http://127.0.0.1:{port}", patience=STUBBORN) as client,
            asyncio.timeout(BACKSTOP_S),
        ):
            jobs = [(await client.submit("errands", {"text": f"job {n}"})).id for n in range(JOBS)]
            crowd = Crowd(client)
            reading = [asyncio.create_task(crowd.read(jobs[n % JOBS])) for n in range(READERS)]
            await crowd.all_here()
            [front] = fronts.of("front")
            killed = front.process
            killed.kill()
            killed.join()
            assert killed.exitcode == -9
            async with Crew([post(stage, stage) for stage in ("fetch", "deliver")], Pen(tmp_path)):
                seen = await asyncio.gather(*reading)
            logs = {job: await journal.reader.job("local", job) for job in jobs}
    assert front.process.pid != killed.pid
    for n, each in enumerate(seen):
        assert unlike(each, logs[jobs[n % JOBS]]) == ""
        assert "".join(text for _, _, text in each) == story(f"job {n % JOBS}")
