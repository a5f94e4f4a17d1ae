"""Clients of a server that says what it is told, and that note how long they would wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from random import Random

import pytest

from actors.client import AsyncHeadrace, Headrace
from tests.unit.scripted_server import ScriptedServer


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def waits() -> list[float]:
    """What a client would have waited, in seconds."""
    return []


@pytest.fixture
async def headrace(server: ScriptedServer, waits: list[float]) -> AsyncIterator[AsyncHeadrace]:
    async def note(seconds: float) -> None:
        waits.append(seconds)

    async with AsyncHeadrace(server.url, sleep=note, rng=Random(7)) as headrace:
        yield headrace


@pytest.fixture
def plain(server: ScriptedServer, waits: list[float]) -> Iterator[Headrace]:
    with Headrace(server.url, sleep=waits.append, rng=Random(7)) as headrace:
        yield headrace
