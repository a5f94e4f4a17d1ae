"""What Ray Serve does to the replicas of a stage under load costs no job a token, an attempt, or its order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from collections.abc import Set as AbstractSet
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from actors.client import AsyncHeadrace, Patience
from actors.contracts.events import Record, StepReleased, StepStarted
from actors.contracts.subjects import LOCAL
from actors.engines.scripted import tokens_of
from actors.journal import Journal
from actors.replies import Cancelled, Delta, Event, Replica
from benchmarks.installed import Installed
from benchmarks.tally import Tally
from tests.tallied_pipeline import FOLDER, HANG, TOKENS, WORDS
from tests.verify import kinds, said, verify

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

LENGTH = len(tokens_of(WORDS))
JOBS = 12
BACKSTOP_S = 120.0
LOOK_EVERY_S = 0.1
EVERYTHING = {"handoff", "step.started", "step.released", "completed"}
"""All the facts of a job whose replicas come and go in order."""


@pytest.fixture(scope="module")
def backstage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder through which a test and all engines hear of each other."""
    folder = tmp_path_factory.mktemp("backstage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER, str(folder))
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        yield folder


class Theatre:
    """An installation whose one stage sings, and what a test has beside it."""

    def __init__(self, installed: Installed, client: AsyncHeadrace, journal: Journal, backstage: Path) -> None:
        self.installed = installed
        self.client = client
        self.journal = journal
        self.tally = Tally(backstage / TOKENS)
        self.hang = backstage / HANG

    async def submit(self, jobs: int = JOBS) -> list[str]:
        return [(await self.client.submit("songs", {"name": f"tune {n}"})).id for n in range(jobs)]

    async def log(self, job: str) -> list[Record]:
        last = await self.journal.reader.last(LOCAL, job)
        return await self.journal.reader.job(LOCAL, job, at_least=last.seq if last else 0)

    async def until_both_sing(self, jobs: list[str]) -> None:
        """Until jobs of these have begun on two replicas, and each of those has said something."""
        while True:
            begun = [records for job in jobs if said(records := await self.log(job), "sing")]
            if len({start.worker for records in begun for start in starts(records)}) == 2:
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def replicas(self) -> list[Replica]:
        [stage] = await self.client.stages()
        return list(stage.replicas)

    async def until_ready(self, replicas: int, *, but: AbstractSet[str] = frozenset()) -> set[str]:
        """Until there are so many replicas, all ready and none of them one of `but`; their workers."""
        while True:
            found = await self.replicas()
            workers = {replica.worker for replica in found if replica.state == "ready"}
            if len(workers) == len(found) == replicas and not workers & but:
                return workers
            await asyncio.sleep(LOOK_EVERY_S)

    async def assert_whole(self, jobs: list[str], computed: int) -> int:
        """Every job is complete and nothing was done twice; how often work was handed back."""
        released = 0
        for job in jobs:
            assert (await self.client.result(job)) == {"text": WORDS}
            records = await self.log(job)
            verify(records)
            assert set(kinds(records)) <= EVERYTHING
            assert said(records, "sing") == WORDS
            handed_back = sum(isinstance(record.event, StepReleased) for record in records)
            assert len(starts(records)) == handed_back + 1, "an attempt ended without a word: that counts as a crash"
            released += handed_back
        assert computed == len(jobs) * LENGTH
        return released


def starts(records: list[Record]) -> list[StepStarted]:
    return [record.event for record in records if isinstance(record.event, StepStarted)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def theatre(backstage: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Theatre]:
    pipelines = ("tests.tallied_pipeline:songs",)
    async with (
        Installed(tmp_path_factory.mktemp("data"), pipelines, drain=1.0, hang_after=1.0, ack_wait=10.0) as installed,
        AsyncHeadrace(f"http://{installed.address.host}:{installed.address.port}", patience=Patience(60)) as client,
        Journal.open([installed.nats_url], "test") as journal,
    ):
        yield Theatre(installed, client, journal, backstage)


@asynccontextmanager
async def counted(theatre: Theatre) -> AsyncIterator[list[int]]:
    """How many tokens were made inside of the `with`; filled in when it ends."""
    before, made = theatre.tally.tokens, list[int]()
    async with asyncio.timeout(BACKSTOP_S):
        yield made
    made.append(theatre.tally.tokens - before)


async def test_a_rolling_update_under_load_hands_everything_over_at_a_token(theatre: Theatre) -> None:
    before = await theatre.until_ready(2)
    async with counted(theatre) as made:
        jobs = await theatre.submit()
        await theatre.until_both_sing(jobs)
        await theatre.installed.deploy("sing", 2, version="second")
        jobs += await theatre.submit(4)
        await theatre.until_ready(2, but=before)
        await asyncio.gather(*(theatre.client.wait(job) for job in jobs))
    assert await theatre.assert_whole(jobs, made[0]) > 0, "the update waited for everybody"


async def test_a_scale_down_hands_everything_over_at_a_token(theatre: Theatre) -> None:
    await theatre.installed.deploy("sing", 2, version="second")
    before = await theatre.until_ready(2)
    async with counted(theatre) as made:
        jobs = await theatre.submit()
        await theatre.until_both_sing(jobs)
        await theatre.installed.deploy("sing", 1, version="second")
        left = await theatre.until_ready(1)
        await asyncio.gather(*(theatre.client.wait(job) for job in jobs))
    assert left < before, "the one that stays was restarted"
    assert await theatre.assert_whole(jobs, made[0]) > 0, "the scale-down waited for everybody"


async def test_a_hung_engine_is_replaced_and_its_jobs_go_on(theatre: Theatre) -> None:
    await theatre.installed.deploy("sing", 1, version="second")
    before = await theatre.until_ready(1)
    async with counted(theatre) as made:
        jobs = await theatre.submit(6)
        while not all([said(await theatre.log(job), "sing") for job in jobs]):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)
        theatre.hang.touch()
        await theatre.until_ready(1, but=before)
        await asyncio.gather(*(theatre.client.wait(job) for job in jobs))
    assert await theatre.assert_whole(jobs, made[0]) == len(jobs)


async def test_a_reader_that_leaves_cancels_its_job_through_the_proxy_too(theatre: Theatre) -> None:
    await theatre.until_ready(len(await theatre.replicas()))
    [job] = await theatre.submit(1)
    async with asyncio.timeout(BACKSTOP_S):
        async with aclosing(theatre.client.events(job, cancel_on_disconnect=True)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    break
        seen: list[Event] = [event async for event in theatre.client.events(job)]
    assert isinstance(seen[-1], Cancelled)
    assert seen[-1].reason == "its reader went away"
