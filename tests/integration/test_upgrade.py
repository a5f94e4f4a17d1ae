"""Versions N and N-1 side by side on one log: each reads, folds and finishes what the other wrote."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.audit.replay import replay
from actors.audit.verify import verify as audited
from actors.contracts.events import StepStarted
from actors.contracts.fold import fold_job
from actors.contracts.subjects import LOCAL
from actors.journal import Journal
from actors.journal.topology import ensure
from actors.journal.trail import Trail
from tests.ledger import copied, until
from tests.nats_servers import Servers
from tests.serving import until_ready
from tests.verify import said, verify

ROOT = Path(__file__).parents[2]
STAGES = ("prepare", "recite", "applaud")
SPEECH = "The headrace feeds the wheel, and the wheel turns the stone, day and night."
FALLS_AT = 5

PIPELINE = f"""
import os

from actors import Job, Message, Pipeline, stage
from actors.engines import Engine, Scripted
from actors.engines.scripted import Cue

class Wish(Message):
    text: str

class Prepared(Message):
    text: str

class Recital(Message):
    text: str

class Applause(Message):
    text: str
    words: int

falls = (Cue("crash", at={FALLS_AT}, when="fall"),) if os.environ.get("FALLS") else ()

@stage()
async def prepare(wish: Wish, job: Job) -> Prepared:
    return Prepared(text=wish.text)

@stage(uses=Scripted(says={SPEECH!r}, token_s=0.05, cues=falls))
async def recite(prepared: Prepared, job: Job, engine: Engine) -> Recital:
    return Recital(text=await job.speak(engine, prepared.text, max_tokens=1_000))

@stage()
async def applaud(recital: Recital, job: Job) -> Applause:
    return Applause(text=recital.text, words=len(recital.text.split()))

recital = Pipeline("recital", prepare, recite, applaud)
"""

PROGRAM = f"""
import asyncio, socket, sys
from pathlib import Path

import actors
from actors.runtime.settings import Settings

root, role, url = sys.argv[1:]
assert Path(actors.__file__).is_relative_to(root), actors.__file__
settings = Settings(nats_url=url, pipelines=("upgraded:recital",), max_bytes=1 << 30, ack_wait=1.0)

async def work():
    from actors.runtime.replica import Replica
    await asyncio.gather(*(Replica(settings, stage).run() for stage in {STAGES}))

def serve():
    import uvicorn
    from actors.ingress import ingress
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(ingress(settings), log_config=None, lifespan="on")).run([listener])

if role == "work":
    asyncio.run(work())
else:
    serve()
"""


@dataclass(frozen=True)
class Version:
    """The sources of one version, and a log to run on."""

    root: Path
    pipeline: Path
    url: str

    @asynccontextmanager
    async def running(self, role: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A process of this version, killed on the way out."""
        known = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "RAY_"))}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, str(self.root), role, self.url),
            cwd=self.pipeline,
            env={**known, **environment, "PYTHONPATH": f"{self.root}{os.pathsep}{self.pipeline}"},
            stdout=subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[httpx.AsyncClient]:
        """The HTTP API of this version."""
        async with self.running("serve") as process:
            assert process.stdout is not None
            port = int(await process.stdout.readline())
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
                await until_ready(http)
                yield http


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the commit before this one."""
    git = ["git", "-C", str(ROOT)]
    top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True)
    found = subprocess.run([*git, "rev-parse", "--verify", "--quiet", "HEAD~1"], capture_output=True, text=True)
    if top.returncode or Path(top.stdout.strip()) != ROOT or found.returncode:
        pytest.skip("there is no earlier commit here: this is no checkout, or one without history")
    folder = tmp_path_factory.mktemp("before")
    packed = subprocess.run([*git, "archive", found.stdout.strip(), "actors"], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


async def posted(http: httpx.AsyncClient, text: str) -> str:
    answer = await http.post("/v1/pipelines/recital/jobs", json={"input": {"text": text}})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def ended(http: httpx.AsyncClient, job: str) -> dict[str, Any]:
    """What the API says of a job once it has its outcome."""

    async def has_outcome() -> bool:
        return (await http.get(f"/v1/jobs/{job}")).json()["status"] not in ("queued", "running")

    await until(has_outcome)
    told: dict[str, Any] = (await http.get(f"/v1/jobs/{job}")).json()
    return told


@pytest.mark.timeout(180)
@pytest.mark.parametrize("forward", [True, False], ids=["N finishes what N-1 began", "N-1 finishes what N began"])
async def test_versions_read_and_finish_what_the_other_wrote(
    r1: Servers, before: Path, tmp_path: Path, forward: bool
) -> None:
    (tmp_path / "upgraded.py").write_text(PIPELINE)
    old, new = Version(before, tmp_path, r1.url), Version(ROOT, tmp_path, r1.url)
    first, second = (old, new) if forward else (new, old)
    async with Journal.open(r1.urls, "test") as journal:
        await ensure(journal.signals, STAGES, max_bytes=1 << 30, ack_wait=1.0)
        async with first.serving() as first_api, second.serving() as second_api:
            async with first.running("work", FALLS="1") as workers:
                whole = await posted(first_api, "stand")
                assert (await ended(first_api, whole))["status"] == "completed"
                broken = await posted(first_api, "fall")
                async with asyncio.timeout(30):
                    assert await workers.wait() < 0
            waiting = await posted(first_api, "wait")
            async with second.running("work"):
                told = {job: await ended(second_api, job) for job in (whole, broken, waiting)}
            logs = {job: await journal.reader.job(LOCAL, job) for job in told}
            for job, records in logs.items():
                verify(records)
                state = fold_job(records)
                assert state is not None
                assert state.status == told[job]["status"] == "completed"
                assert said(records, "recite") == told[job]["answer"]["text"] == SPEECH
                assert (await first_api.get(f"/v1/jobs/{job}")).json() == told[job]
                logged = [(await api.get(f"/v1/jobs/{job}/log")).text for api in (first_api, second_api)]
                assert logged[0] == logged[1]
            began = [r.event for r in logs[broken] if isinstance(r.event, StepStarted) and r.event.stage == "recite"]
            # The second version went on from the tokens that the first one had stored.
            assert [0 < event.from_ <= FALLS_AT for event in began] == [False, True]
        await copied(journal, max(records[-1].seq for records in logs.values()))
        trail, now = Trail(journal.replays), datetime.now(UTC)
        assert not (await audited(trail, journal.reader, None, now=now)).findings
        assert not (await replay(trail, journal.reader, now=now)).findings
