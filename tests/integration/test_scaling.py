"""A stage has as many replicas as its lag needs, from none and down to none, and no job notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from actors.client import AsyncHeadrace, Patience
from actors.contracts.events import StepReleased, StepStarted
from actors.contracts.subjects import LOCAL
from actors.engines.scripted import tokens_of
from actors.journal import Journal
from actors.replies import StageReport
from benchmarks.installed import Installed
from benchmarks.tally import Tally
from tests.nats_servers import Servers, lone
from tests.scaled_pipeline import MOST, WORDS
from tests.tallied_pipeline import FOLDER, TOKENS
from tests.verify import kinds, said, verify

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

PIPELINES = ("tests.scaled_pipeline:hummed", "tests.pipelines:keeper")
LENGTH = len(tokens_of(WORDS))
BACKSTOP_S = 90.0
LOOK_EVERY_S = 0.1


class Choir:
    """An installation with a stage that follows its lag, and one beside it that does not."""

    def __init__(
        self, servers: Servers, installed: Installed, client: AsyncHeadrace, journal: Journal, tally: Tally
    ) -> None:
        self.servers = servers
        self.installed = installed
        self.client = client
        self.journal = journal
        self.tally = tally
        self.wanted: list[int] = []

    async def submit(self, jobs: int) -> list[str]:
        return [(await self.client.submit("hummed", {"name": f"tune {n}"})).id for n in range(jobs)]

    async def stage(self, name: str = "hum") -> StageReport:
        """How it is; what was decided is written down."""
        [stage] = [stage for stage in await self.client.stages() if stage.stage == name]
        if name == "hum" and stage.scaling and stage.scaling.wanted is not None:
            self.wanted.append(stage.scaling.wanted)
        return stage

    async def until(self, replicas: int, reason: str = "") -> StageReport:
        """Until so many are wanted and there, all ready; for this reason, where one is given."""
        while True:
            stage = await self.stage()
            states = [replica.state for replica in stage.replicas]
            there = stage.scaling and stage.scaling.wanted == replicas and states == ["ready"] * replicas
            if there and stage.scaling and reason in ("", stage.scaling.reason):
                return stage
            await asyncio.sleep(LOOK_EVERY_S)

    def processes(self, stage: str) -> set[int]:
        """The processes of its replicas."""
        found = psutil.Process().children(recursive=True)
        return {process.pid for process in found if f"ray::ServeReplica:{stage}:" in _name(process)}

    async def until_processes(self, stage: str, number: int) -> None:
        while len(self.processes(stage)) != number:  # noqa: ASYNC110  # they are other processes
            await asyncio.sleep(LOOK_EVERY_S)

    async def assert_whole(self, jobs: list[str], computed: int) -> None:
        """Every job is complete, nothing failed, and not a token was made twice."""
        for job in jobs:
            assert await self.client.result(job) == {"text": WORDS}
            last = await self.journal.reader.last(LOCAL, job)
            assert last
            records = await self.journal.reader.job(LOCAL, job, at_least=last.seq)
            verify(records)
            assert set(kinds(records)) <= {"handoff", "step.started", "step.released", "completed"}
            assert said(records, "hum") == WORDS
            events = [record.event for record in records]
            started = sum(isinstance(event, StepStarted) for event in events)
            assert started == sum(isinstance(event, StepReleased) for event in events) + 1
        assert computed == len(jobs) * LENGTH


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@pytest.fixture(scope="module")
def tally(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tally]:
    folder = tmp_path_factory.mktemp("backstage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER, str(folder))
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        yield Tally(folder / TOKENS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def choir(tally: Tally, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Choir]:
    servers = lone(tmp_path_factory.mktemp("log"))
    await servers.start()
    data = tmp_path_factory.mktemp("data")
    try:
        async with (
            Installed(data, PIPELINES, nats_url=servers.url, drain=1.0) as installed,
            AsyncHeadrace(f"http://{installed.address.host}:{installed.address.port}", patience=Patience(60)) as client,
            Journal.open([servers.url], "test") as journal,
        ):
            yield Choir(servers, installed, client, journal, tally)
    finally:
        servers.thaw()
        await servers.close()


@asynccontextmanager
async def whole(choir: Choir) -> AsyncIterator[list[str]]:
    """The jobs that a test puts in here are complete on the way out, and computed once."""
    before, jobs = choir.tally.tokens, list[str]()
    async with asyncio.timeout(BACKSTOP_S):
        yield jobs
        await asyncio.gather(*(choir.client.wait(job) for job in jobs))
    await choir.assert_whole(jobs, choir.tally.tokens - before)


async def test_the_first_job_brings_up_the_first_replica(choir: Choir) -> None:
    async with whole(choir) as jobs:
        idle = await choir.until(0, "0 wait and 0 run, 2 for each replica")
        assert idle.scaling
        assert (idle.scaling.min, idle.scaling.max) == (0, MOST)
        jobs += await choir.submit(1)
        await choir.until(1)


async def test_a_burst_is_met_with_more_replicas_and_its_end_with_none(choir: Choir) -> None:
    beside = await choir.stage("keep")
    async with whole(choir) as jobs:
        await choir.until(0)
        choir.wanted.clear()
        jobs += await choir.submit(13)
        crowded = await choir.until(MOST)
        assert crowded.scaling
        assert crowded.scaling.reason.endswith(f"{MOST} is the most")
        assert (await choir.client.result((await choir.client.submit("keeper", {"data": 1})).id)) == {"data": 1}
        await choir.until(0)
    up = choir.wanted.index(MOST)
    assert choir.wanted[:up] == sorted(choir.wanted[:up])
    assert choir.wanted[up:] == sorted(choir.wanted[up:], reverse=True), "it turned round more than once"
    after = await choir.stage("keep")
    assert [replica.worker for replica in after.replicas] == [replica.worker for replica in beside.replicas]


@pytest.mark.long
async def test_while_nobody_knows_the_lag_every_replica_stays(choir: Choir) -> None:
    async with whole(choir) as jobs:
        jobs += await choir.submit(4)
        before = await choir.until(2)
        humming = choir.processes("hum")
        choir.servers.freeze()
        # Serve goes on deciding meanwhile: it brings up another stage's replica, and takes it away again.
        await choir.installed.deploy("keep", 2, version="same")
        await choir.until_processes("keep", 2)
        await choir.installed.deploy("keep", 1, version="same")
        await choir.until_processes("keep", 1)
        assert choir.processes("hum") == humming
        choir.servers.thaw()
        after = await choir.stage()
        assert [replica.worker for replica in after.replicas] == [replica.worker for replica in before.replicas]
        await choir.until(0)
