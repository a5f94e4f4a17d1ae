"""What kills waste: the tokens that were computed over those that were needed, and the jobs that were lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nats.aio.msg import Msg

from actors.contracts.events import Record
from actors.contracts.subjects import DEAD, LIVE
from actors.journal.journal import Journal
from benchmarks.estimate import estimate
from benchmarks.hands import Hand, Staff, until_ready
from benchmarks.pipelines import TOKEN_S, Ask, retelling
from benchmarks.posting import post
from benchmarks.progress import tell
from benchmarks.result import Bar, Measure
from benchmarks.tally import Tally

WORKERS = 2
PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Block:
    """So many jobs, and one kill amid them. `resumed` of them were taken over from the worker that was killed."""

    jobs: int
    resumed: int
    computed: int
    needed: int
    completed: int


class Ear:
    """Hears how the jobs of everybody begin and end, as they do."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.kinds: Counter[str] = Counter()
        self._news = asyncio.Event()

    async def listen(self) -> None:
        for topic in ("step", "done", DEAD):
            await self._journal.live.subscribe(f"{LIVE}job.{topic}.>", self._take)

    @property
    def ended(self) -> int:
        """How many jobs have their outcome."""
        return sum(count for kind, count in self.kinds.items() if not kind.startswith("step."))

    async def until(self, ended: int) -> None:
        """Until so many have ended."""
        async with asyncio.timeout(PATIENCE_S):
            while self.ended < ended:
                self._news.clear()
                await self._news.wait()

    async def _take(self, message: Msg) -> None:
        self.kinds[Record(0, message.subject, message.data).event.kind] += 1
        self._news.set()


async def waste(staff: Staff, journal: Journal, folder: Path, *, blocks: int, jobs: int, tokens: int) -> list[Block]:
    """So many blocks, one after the other, on workers of whom one is killed in each of them."""
    tally, ear, hands = Tally(folder / "tally"), Ear(journal), list[Hand]()
    await ear.listen()
    found = []
    for at in range(blocks):
        while len(hands) < WORKERS:
            hands.append(await staff.hire("worker", stage=retelling.entry.name, first_token_s=0.05, tally=tally.path))
        await until_ready(journal, retelling.entry.name, WORKERS)
        made, heard, ended = tally.tokens, ear.kinds.copy(), ear.ended
        for number in range(jobs):
            await post(journal, retelling, Ask(text=f"{at} {number}", tokens=tokens))
            await asyncio.sleep(tokens * TOKEN_S / jobs)  # so that they are killed at all sorts of tokens
        await ear.until(ended + jobs // 3)
        hands.pop(0).kill()
        await ear.until(ended + jobs)
        new = ear.kinds - heard
        found.append(Block(jobs, new["step.started"] - jobs, tally.tokens - made, jobs * tokens, new["completed"]))
        tell(f"(b) {at + 1}: {found[-1]}")
    for hand in hands:
        await hand.stop()
    return found


def wasted(blocks: Sequence[Block], bar: Bar) -> list[Measure]:
    """(b) Tokens computed over tokens needed, and the jobs that have no answer."""

    def ratio(drawn: Sequence[Block]) -> float:
        return sum(block.computed for block in drawn) / sum(block.needed for block in drawn)

    def lost(drawn: Sequence[Block]) -> float:
        return sum(block.jobs - block.completed for block in drawn)

    jobs, needed = sum(block.jobs for block in blocks), sum(block.needed for block in blocks)
    resumed = sum(block.resumed for block in blocks)
    load = f"{jobs} jobs, a kill in each {blocks[0].jobs}"
    return [
        Measure(
            part="b",
            question="tokens computed over tokens needed",
            load=load,
            estimate=estimate(blocks, ratio),
            bar=bar,
            detail=f"{sum(block.computed for block in blocks)} of {needed}; {resumed} jobs were taken over",
            raw={"computed": [block.computed for block in blocks], "needed": [block.needed for block in blocks]},
        ),
        Measure(
            part="b",
            question="jobs without an answer",
            load=load,
            estimate=estimate(blocks, lost),
            unit="jobs",
            bar=Bar(most=0),
            detail=f"{int(lost(blocks))} of {jobs}",
        ),
    ]
