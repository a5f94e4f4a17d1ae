"""The log, opened on real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from actors.journal import Journal
from actors.journal.topology import ensure
from tests.nats_servers import Servers
from tests.office import Office, office_on
from tests.workers import Nursery

STAGES = ("write", "polish", "prepare", "recite", "applaud", "fetch", "deliver", "consult")
"""The stages whose consumers there are in every opened log."""

ACK_WAIT_S = 1.0

R1 = pytest.mark.parametrize("servers", ["r1"], indirect=True)
"""For tests whose fixtures would run on one server and on three, where one shows as much."""


@asynccontextmanager
async def opened(
    servers: Servers, name: str = "test", *, ack_wait: float = ACK_WAIT_S, stages: Sequence[str] = STAGES
) -> AsyncIterator[Journal]:
    """The log on these servers, made if it is not there."""
    async with Journal.open(servers.urls, name) as journal:
        await ensure(journal.signals, stages, replicas=servers.replicas, max_bytes=1 << 30, ack_wait=ack_wait)
        yield journal


@pytest_asyncio.fixture
async def journal(servers: Servers) -> AsyncIterator[Journal]:
    """The log, on one server and on a cluster of three."""
    async with opened(servers) as journal:
        yield journal


@pytest_asyncio.fixture
async def journal_r1(r1: Servers) -> AsyncIterator[Journal]:
    """The log, on one server."""
    async with opened(r1) as journal:
        yield journal


@pytest_asyncio.fixture
async def journal_r3(r3: Servers) -> AsyncIterator[Journal]:
    """The log, on a cluster of three."""
    async with opened(r3) as journal:
        yield journal


@pytest_asyncio.fixture
async def office(journal: Journal) -> AsyncIterator[Office]:
    """What a test has beside the workers, on one server and on a cluster of three."""
    async with office_on(journal) as office:
        yield office


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    """Makes workers in processes of their own; none outlives the test."""
    nursery = Nursery()
    yield nursery
    nursery.close()
