from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import uvicorn

from benchmarks import desks
from benchmarks.crowd import Asked
from benchmarks.desks import PollingDesk
from benchmarks.pipelines import Ask
from benchmarks.task_front import DONE, FAILED, Look, front
from benchmarks.wire import Address

LOOKS = 3


class Patient:
    """Tasks that have ended when they are looked at for the third time; those of one token fail."""

    def __init__(self) -> None:
        self.sent: list[Ask] = []
        self.looks = 0

    def send(self, ask: Ask) -> str:
        self.sent.append(ask)
        return "first"

    def look(self, task: str) -> Look:
        if task != "first":
            return Look(state="PENDING")
        self.looks += 1
        if self.looks < LOOKS:
            return Look(state="STARTED")
        return Look(state=FAILED) if self.sent[0].tokens == 1 else Look(state=DONE, answer="turn")


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Patient:
    monkeypatch.setattr(desks, "SHORTEST_PAUSE_S", 0.001)
    return Patient()


@pytest_asyncio.fixture
async def address(tasks: Patient) -> AsyncIterator[Address]:
    server = uvicorn.Server(uvicorn.Config(front(tasks), port=0, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.001)
    yield Address("127.0.0.1", server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    await serving


@pytest.mark.parametrize(("tokens", "trouble"), [(5, ""), (1, "no answer")])
async def test_a_task_is_looked_at_until_it_has_ended(
    address: Address, tasks: Patient, tokens: int, trouble: str
) -> None:
    desk = PollingDesk(address, "/", {"input": {"text": "Which mill?", "tokens": tokens}})
    await desk.idle()
    asked = Asked(sent=time.time())
    await desk.ask(asked)
    assert tasks.sent == [Ask(text="Which mill?", tokens=tokens)]
    assert tasks.looks == LOOKS
    assert asked.trouble == trouble
    assert asked.ended > asked.sent + asked.posted_s > asked.sent
    assert not asked.first


async def test_what_is_not_accepted_is_trouble_and_not_looked_after(address: Address, tasks: Patient) -> None:
    asked = Asked(sent=time.time())
    await PollingDesk(address, "/", {"input": {"text": "Which mill?"}}).ask(asked)
    assert (asked.trouble, tasks.looks) == ("422", 0)
