"""What a takeover costs: from the SIGKILL of a worker to the next new token at a reader, over the bare prefill."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from pydantic import JsonValue

from actors.contracts.events import Completed, Delta, StepStarted
from actors.contracts.generation import Sampling
from actors.contracts.subjects import LOCAL
from actors.engines import Engine
from actors.journal.follow import Follower, Place
from actors.journal.journal import Journal
from actors.pipeline import Pipeline
from benchmarks.estimate import median, summary
from benchmarks.hands import Hand, Staff, until_ready
from benchmarks.paired import in_words, over_bare
from benchmarks.pipelines import Ask
from benchmarks.posting import post
from benchmarks.progress import tell
from benchmarks.result import Bar, Measure

WARM = 2
"""One works and one is its spare, and both have worked before."""

SHORT = 2


@dataclass(frozen=True, slots=True)
class TakenOver:
    """One kill, in seconds: to the spare's claim, to its first token at the reader, and the bare engine's prefill."""

    claimed: float
    ours: float
    bare: float


@dataclass(slots=True)
class Watched:
    """What a reader saw of the job: when the spare's first token was there, and what was said before."""

    killed: float = 0.0
    claimed: float = 0.0
    resumed: float = 0.0
    said: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for: a prompt of so many words, and so many tokens, of which the worker makes `before` at least."""

    words: int
    tokens: int
    before: int

    def ask(self, number: int) -> Ask:
        """The number comes first, so that no two prompts have a beginning in common."""
        text = " ".join(f"{number} mills have {number + at} millstones" for at in range(self.words // 5))
        return Ask(text=f"{text}. What drives them?", tokens=self.tokens)


class Relief:
    """Kills whoever runs a job, again and again; a spare is always warm. `engine` is the bare one, warm too."""

    def __init__(
        self,
        staff: Staff,
        journal: Journal,
        pipeline: Pipeline,
        engine: Engine,
        load: Load,
        *,
        first_token_s: float = 0.0,
    ) -> None:
        self._staff = staff
        self._journal = journal
        self._follower = Follower(journal.live, journal.reader)
        self._pipeline = pipeline
        self._engine = engine
        self._load = load
        self._first_token_s = first_token_s
        self._hands: dict[str, Hand] = {}
        self._warm: set[str] = set()
        self._numbers = itertools.count()

    async def kills(self, count: int) -> list[TakenOver]:
        """So many kills, each with its bare prefill right after it."""
        taken = []
        await self._bare(self._ask(), [])  # whatever is made only once is made
        for number in range(1, count + 1):
            await self._complete()
            ask = self._ask()
            seen = await self._watch(ask)
            bare = await self._bare(ask, seen.said)
            taken.append(TakenOver(seen.claimed - seen.killed, seen.resumed - seen.killed, bare))
            tell(f"(a) kill {number}: {1000 * taken[-1].ours:.0f} ms, bare {1000 * bare:.0f} ms")
        for hand in self._hands.values():
            await hand.stop()
        return taken

    async def _complete(self) -> None:
        stage = self._pipeline.entry.name
        while len(self._hands) < WARM:
            hand = await self._staff.hire("worker", stage=stage, first_token_s=self._first_token_s)
            self._hands[hand.name] = hand
        await until_ready(self._journal, stage, WARM)
        while not self._warm >= self._hands.keys():
            short = [self._ask().model_copy(update={"tokens": SHORT}) for _ in range(WARM)]
            self._warm |= set(await asyncio.gather(*(self._ran_by(ask) for ask in short)))

    def _ask(self) -> Ask:
        """A prompt that nobody has seen."""
        return self._load.ask(next(self._numbers))

    async def _ran_by(self, ask: Ask) -> str:
        """The worker that ran a job."""
        worker, job = "", await post(self._journal, self._pipeline, ask)
        async with self._follower.follow(LOCAL, job, Place()) as items:
            async for item in items:
                if isinstance(item.event, StepStarted):
                    worker = item.event.worker
        return worker

    async def _watch(self, ask: Ask) -> Watched:
        """Read a job to its end, and kill the first worker in the middle of it."""
        seen, first = Watched(), ""
        job = await post(self._journal, self._pipeline, ask)
        async with self._follower.follow(LOCAL, job, Place()) as items:
            async for item in items:
                now, event = time.time(), item.event
                match event:
                    case StepStarted() if not first:
                        first = event.worker
                    case StepStarted():
                        seen.claimed = event.at.timestamp()
                    case Delta() if event.by.startswith(f"{first}/"):
                        seen.said += event.tokens
                        if not seen.killed and len(seen.said) >= self._load.before:
                            seen.killed = self._hands.pop(first).kill()
                    case Delta() if not seen.resumed:
                        seen.resumed = now
                    case Completed() if seen.resumed:
                        return seen
        raise RuntimeError(f"a job was not taken over: it ended {event.kind if event else 'with a gap'}")

    async def _bare(self, ask: Ask, said: Sequence[int]) -> float:
        """Seconds until the bare engine has the first new token after what was said."""
        sampling = Sampling(max_tokens=ask.tokens, min_tokens=ask.tokens)
        began = time.time()
        async with aclosing(self._engine.generate("", self._engine.encode(ask.text), sampling, said=said)) as pieces:
            await anext(pieces)
            return time.time() - began


def taken_over(engine: str, taken: Sequence[TakenOver], bar: Bar) -> list[Measure]:
    """(a) SIGKILL of a worker to the next new token at a reader, over the bare prefill."""
    claimed = median([one.claimed for one in taken])
    raw: dict[str, JsonValue] = {
        "resumed": dict(summary([one.ours for one in taken])),
        "claimed": dict(summary([one.claimed for one in taken])),
        "bare": dict(summary([one.bare for one in taken])),
    }

    def measure(q: int) -> Measure:
        return Measure(
            part="a",
            question=f"SIGKILL of a worker to the next new token, over the bare prefill, {engine}, p{q}",
            load=f"{len(taken)} kills",
            estimate=over_bare(taken, q),
            bar=bar if q == 50 else None,
            detail=f"{in_words(taken, q)}; with the spare after {1000 * claimed:.0f} ms",
            raw=raw if q == 50 else {},
        )

    return [measure(50), measure(95)]
