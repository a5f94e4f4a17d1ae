"""All kinds of bad luck at once: every job still has exactly one outcome, and its log is whole."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from actors import Job, Retry, RetryableError, Stage
from actors.contracts.events import CancelRequested, Completed
from actors.contracts.fold import fold_job
from actors.engines import Engine, Scripted
from actors.engines.scripted import Cue, tokens_of
from actors.journal import Refused, Unanswered
from actors.runtime.writer import Pen
from tests.integration.conftest import ACK_WAIT_S, opened
from tests.nats_servers import Servers
from tests.office import Office, office_on
from tests.scribe import Scribe
from tests.thinking import Draft, Question, analysis
from tests.trouble import LosesAnswers
from tests.verify import kinds, said
from tests.workers import Hand, a_hand

JOBS = 40
PATIENCE_S = 50.0


def says(prompt: str) -> str:
    return f"{prompt}: " + " ".join(f"w{n}" for n in range(len(prompt) * 2))


async def write(question: Question, job: Job, engine: Engine) -> Draft:
    noted = await job.once("noted", lambda: _note(job))
    text = await job.speak(engine, question.text, max_tokens=1_000)
    if question.text.endswith("fails") and job.attempt < 3:
        raise RetryableError("not yet", delay=0.05)
    return Draft(text=f"{text} {noted}")


async def _note(job: Job) -> str:
    return f"noted by attempt {job.attempt}"


class Storm:
    """Workers that come and go, in a weather that a seed makes."""

    def __init__(self, servers: Servers, office: Office, rng: Random) -> None:
        self._servers = servers
        self._office = office
        self._rng = rng
        self._hands: list[tuple[Hand, AsyncExitStack]] = []
        self.pipeline, writing, self._polishing = analysis(
            writes=write, retry=Retry(attempts=8, crashes=30, first=0.0, longest=0.1)
        )
        self._writing = writing

    def _engine(self) -> Scripted:
        cues = (Cue("die", at=self._rng.randint(3, 40), when=f"question {self._rng.randrange(JOBS)}"),)
        return Scripted(says=says, token_s=0.002, cues=cues if self._rng.random() < 0.2 else ())

    async def hire(self, stage: Stage) -> None:
        options: dict[str, Any] = {}
        if self._rng.random() < 0.3:
            options["pen"] = lambda pen: _deaf(pen)
        if stage is self._writing:
            stage = replace(stage, uses=self._engine())
        stack = AsyncExitStack()
        self._hands.append(
            (await stack.enter_async_context(a_hand(self._servers, self.pipeline, stage, **options)), stack)
        )

    async def rage(self, blows: int) -> None:
        for stage in (self._writing, self._writing, self._polishing, self._polishing):
            await self.hire(stage)
        for _ in range(blows):
            await asyncio.sleep(self._rng.uniform(0.0, 0.15))
            what = self._rng.choice(["vanish", "vanish", "drain", "kill the server", "freeze the server"])
            match what:
                case "vanish" | "drain":
                    hand, stack = self._hands.pop(self._rng.randrange(len(self._hands)))
                    await (hand.vanish() if what == "vanish" else hand.worker.drain(self._rng.choice([0.0, 0.1])))
                    with contextlib.suppress(OSError):
                        await stack.aclose()
                    stage = self._writing if hand.name.startswith("write") else self._polishing
                    await self.hire(stage)
                case "kill the server":
                    victim = self._rng.randrange(self._servers.replicas)
                    await self._servers.kill(victim)
                    await self._servers.start(victim)
                case "freeze the server":
                    victim = self._rng.randrange(self._servers.replicas)
                    self._servers.freeze(victim)
                    await asyncio.sleep(self._rng.choice([0.1, 1.5 * ACK_WAIT_S]))
                    self._servers.thaw(victim)

    async def calm(self) -> None:
        """Every hand whose engine has died is replaced, as Serve does."""
        while True:
            for hand, stack in list(self._hands):
                if hand.worker.trouble:
                    self._hands.remove((hand, stack))
                    await hand.vanish()
                    await stack.aclose()
                    await self.hire(self._writing)
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        for _, stack in self._hands:
            await stack.aclose()


def _deaf(pen: Pen) -> Pen:
    return replace(pen, appender=LosesAnswers(pen.appender))


async def cancel_some(office: Office, jobs: list[Scribe], rng: Random) -> set[str]:
    asked: set[str] = set()
    for job in rng.sample(jobs, len(jobs) // 5):
        await asyncio.sleep(rng.uniform(0.0, 0.2))
        with contextlib.suppress(Refused, Unanswered):
            await job.catch_up(office.journal.reader)
            records = await office.log(job)
            state = fold_job(records)
            if state and state.step and state.step.open and not state.outcome:
                await job.write(CancelRequested, reason="the storm")
                asked.add(job.address.job)
    return asked


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_every_job_has_one_outcome_through_any_weather(servers: Servers, seed: int) -> None:
    rng = Random(seed)
    async with opened(servers) as journal, office_on(journal) as office:
        storm = Storm(servers, office, rng)
        names = [f"question {n}{' fails' if n % 7 == 0 else ''}" for n in range(JOBS)]
        jobs = [await office.post(storm.pipeline, Question(text=name)) for name in names]
        replacing = asyncio.create_task(storm.calm())
        try:
            cancelling = asyncio.create_task(cancel_some(office, jobs, rng))
            await storm.rage(blows=12)
            asked = await cancelling
            async with asyncio.timeout(PATIENCE_S):
                logs = [await office.outcome(job) for job in jobs]
        finally:
            replacing.cancel()
            await asyncio.wait({replacing})
            await storm.close()
    for name, job, records in zip(names, jobs, logs, strict=True):
        outcome = records[-1].event
        if job.address.job in asked:
            assert outcome.kind == "cancelled"
            continue
        assert isinstance(outcome, Completed), kinds(records)
        text = says(name)
        assert said(records, "write") == text
        assert outcome.answer.body["text"].startswith(f"{text} noted by attempt ".upper())
        assert outcome.usage.output_tokens == len(tokens_of(text))
        assert kinds(records).count("step.part") == 1
