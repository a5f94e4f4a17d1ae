"""The Python client over real HTTP, on a wire that is cut: with asyncio and without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from actors.client import AsyncHeadrace, BadRequest, Headrace, NotFound, Patience, Refused, Unavailable
from actors.contracts.messages import Message
from actors.replies import Completed, Delta, Event
from actors.runtime.settings import Settings
from tests.lossy import Relay, relay
from tests.nats_servers import Servers
from tests.pipelines import SPEECH, Wish
from tests.serving import listening, settings_for, working

STAGES = ("prepare", "recite", "applaud")
STUBBORN = Patience(tries=1_000, first=0.01, longest=0.05)
BACKSTOP_S = 40.0


class Applause(Message):
    """The answer of `recital`, as a program of somebody else declares it."""

    text: str
    words: int


@pytest.fixture
def settings(r1: Servers) -> Settings:
    return settings_for(r1)


@asynccontextmanager
async def cut_now_and_then(url: str) -> AsyncIterator[Relay]:
    """A wire to Headrace of which no connection brings more than a few hundred bytes, and then none is cut any more."""
    rng = Random(20261123)
    portions = [rng.randrange(300, 900) for _ in range(20)]
    async with relay(url, portions) as wire:
        yield wire


def assert_whole(events: list[Event]) -> None:
    """Each event once and in order, the outcome last, and the text as it was said."""
    numbers = [event.n for event in events]
    assert numbers == sorted(set(numbers))
    assert isinstance(events[-1], Completed)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == SPEECH


async def test_a_job_is_submitted_once_and_read_whole_over_a_wire_that_is_cut(settings: Settings) -> None:
    async with (
        listening(settings) as url,
        cut_now_and_then(url) as wire,
        working(settings, *STAGES),
        AsyncHeadrace(wire.url, patience=STUBBORN) as headrace,
        AsyncHeadrace(url) as near,
        asyncio.timeout(BACKSTOP_S),
    ):
        job = await headrace.submit("recital", Wish(text="go"))
        assert_whole([event async for event in headrace.events(job.id)])
        stored = [entry async for entry in headrace.log(job.id)]
        assert stored == [entry async for entry in near.log(job.id)]
        assert [entry.event["n"] for entry in stored if isinstance(entry.event, dict)] == list(
            range(1, len(stored) + 1)
        )
        assert await headrace.result(job.id, Applause) == Applause(text=SPEECH, words=len(SPEECH.split()))
        assert [one.id async for one in near.jobs()] == [job.id]
        assert wire.spent >= 5


async def test_without_asyncio_it_is_the_same(settings: Settings) -> None:
    def use(url: str) -> None:
        with Headrace(url, patience=STUBBORN) as headrace:
            job = headrace.submit("recital", {"text": "go"}, key="mine", metadata={"team": "blue"})
            assert_whole(list(headrace.events(job.id)))
            again = headrace.submit("recital", {"text": "go"}, key="mine", metadata={"team": "blue"}, wait=20)
            assert (again.id, again.status, again.metadata) == (job.id, "completed", {"team": "blue"})
            assert [entry.sequence for entry in headrace.log(job.id)]
            assert headrace.cancel(job.id).status == "completed"
            with pytest.raises(NotFound):
                headrace.job("a" * 26)
            with pytest.raises(Refused, match="Idempotency-Key"):
                headrace.submit("recital", {"text": "something else"}, key="mine")

    async with listening(settings) as url, cut_now_and_then(url) as wire, working(settings, *STAGES):
        await asyncio.to_thread(use, wire.url)


async def test_a_submission_that_waits_returns_with_the_outcome_or_with_the_job_as_it_stands(
    settings: Settings,
) -> None:
    async with listening(settings) as url, AsyncHeadrace(url) as headrace:
        nobody_works = await headrace.submit("recital", {"text": "go"}, wait=1)
        assert (nobody_works.status, nobody_works.answer) == ("queued", None)
        async with working(settings, *STAGES):
            job = await headrace.submit("recital", {"text": "go"}, wait=30)
            assert job.answer == {"text": SPEECH, "words": len(SPEECH.split())}
            assert (await headrace.wait(nobody_works.id)).answer == job.answer


async def test_where_too_much_waits_the_client_comes_back_when_it_was_asked_to(r1: Servers) -> None:
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    crowded = settings_for(r1).model_copy(update={"max_backlog": 1})
    async with listening(crowded) as url, AsyncHeadrace(url, patience=Patience(tries=5), sleep=note) as headrace:
        with pytest.raises(Unavailable) as refused:
            await _fill(headrace)
    assert refused.value.problem.status == 429
    assert refused.value.retry_after
    assert pauses
    assert min(pauses) >= 1  # what it was asked for, and a little more


async def _fill(headrace: AsyncHeadrace) -> None:
    for _ in range(1_000):
        await headrace.submit("keeper", {"data": 1})


async def test_what_cannot_be_a_job_is_said_before_or_by_the_server(settings: Settings) -> None:
    async with listening(settings) as url, AsyncHeadrace(url) as headrace:
        with pytest.raises(BadRequest):
            await headrace.submit("recital", {"text": float("nan")})
        with pytest.raises(Refused, match="text"):
            await headrace.submit("recital", {"text": 7})
        with pytest.raises(NotFound, match="use one of: recital, keeper"):
            await headrace.submit("nothing", {})
