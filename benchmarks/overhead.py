"""What Headrace costs, beside the bare thing, in one interleaved run: `python -m benchmarks.overhead`.

Both sides of a comparison are taken right after each other, in turns of order; that is one block of its bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from actors.engines import Vllm
from benchmarks.accepting import Accepted, Request, accept, accepted
from benchmarks.bare_append import BareAppend
from benchmarks.command import data_folder, keep, options, small_model
from benchmarks.estimate import median
from benchmarks.followed import Client
from benchmarks.handing_off import hand_off, handed_off
from benchmarks.installed import Installed
from benchmarks.machine import machine
from benchmarks.pipelines import FIRST_TOKEN_S, TOKEN_S, paced
from benchmarks.progress import tell
from benchmarks.result import Bar, Measure, Result
from benchmarks.sides import Comparison, Load, Sides
from benchmarks.streaming import first_token_added, first_token_ratio, tokens_retained
from benchmarks.wire import Connection

SCRIPTED = "scripted engine"
REAL = "vLLM"
SHORT = 2
"""Tokens of a generation of which only the first is looked at."""

WARM_UP_S = 0.3
BODY = {"input": {"text": "What is a tailrace, and where does the water in it come from?", "tokens": 64}}

PIPELINES = tuple(f"benchmarks.pipelines:{name}" for name in ("recital", "relay", "shelf"))
REAL_PIPELINE = "benchmarks.pipelines:generation"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure: so many blocks of each, under these loads."""

    blocks: int = 6
    tokens: int = 64
    streams: tuple[int, ...] = (1, 8, 32)
    real_streams: tuple[int, ...] = (1, 8)
    jobs: int = 2
    first_tokens: int = 25
    real_first_tokens: int = 6
    connections: tuple[int, ...] = (1, 32, 256)
    seconds: float = 1.5
    handoffs: int = 40


QUICK = Plan(
    blocks=2,
    tokens=8,
    streams=(1, 8),
    jobs=1,
    first_tokens=3,
    connections=(1, 32),
    seconds=0.3,
    handoffs=3,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """What everything is measured with."""

    plan: Plan
    installed: Installed
    append: BareAppend
    client: Client

    async def scripted(self) -> list[Measure]:
        """(a) and (b) with the scripted engine, which costs nothing: what is missing is ours."""
        measures, added = [], []
        async with paced(64) as engine:
            compare = Comparison(self.client, self.installed.processes, self.append, engine=engine, pipeline="recital")
            await self._warm_up(compare)
            await self.append.be_like("job.recite.>")
            for streams in self.plan.streams:
                load = Load(streams, self.plan.jobs, self.plan.tokens, FIRST_TOKEN_S + self.plan.tokens * TOKEN_S)
                blocks = await self._blocks(f"(a) {SCRIPTED}, {load}", compare, load)
                measures.append(tokens_retained(SCRIPTED, str(load), blocks, Bar(least=0.90)))
            added = first_token_added(SCRIPTED, str(load), blocks, Bar(most=12))
            load = Load(1, self.plan.first_tokens, SHORT, 0.0)
            blocks = await self._blocks(f"(b) {SCRIPTED}, {load}", compare, load)
        return [*measures, *first_token_added(SCRIPTED, str(load), blocks, Bar(most=8)), *added]

    async def real(self, model: Path) -> list[Measure]:
        """(a) and (b) with a real model, which shares the machine with us."""
        measures = []
        async with Vllm(str(model)) as engine:
            compare = Comparison(
                self.client, self.installed.processes, self.append, engine=engine, pipeline="generation"
            )
            await self._warm_up(compare)
            for streams in self.plan.real_streams:
                load = Load(streams, 1, self.plan.tokens, 0.0)
                blocks = await self._blocks(f"(a) {REAL}, {load}", compare, load)
                measures.append(tokens_retained(REAL, str(load), blocks, Bar(least=0.80)))
            load = Load(1, self.plan.real_first_tokens, SHORT, 0.0)
            blocks = await self._blocks(f"(b) {REAL}, {load}", compare, load)
        return [*measures, first_token_ratio(REAL, str(load), blocks, Bar(most=1.10))]

    async def accepts(self) -> list[Measure]:
        """(c) Accepting jobs for a pipeline whose stage has no replicas."""
        address, measures = self.installed.address, []
        submit = Request(address.post("/v1/pipelines/shelf/jobs", BODY), 202)
        echo = Request(address.post("/echo/", BODY), 200)
        for count in self.plan.connections:
            connections = [await Connection.open(address) for _ in range(count)]

            async def take(at: int, seconds: float, connections: Sequence[Connection] = connections) -> Accepted:
                return await accept(
                    connections, submit, echo, self.installed.processes, seconds=seconds, echo_first=at % 2 == 0
                )

            await take(0, WARM_UP_S)
            blocks = []
            for at in range(self.plan.blocks):
                blocks.append(await take(at, self.plan.seconds))
                tell(f"(c) {count} connections, {at + 1}: {blocks[-1].ratio:.2f}")
            for connection in connections:
                connection.close()
            measures.append(accepted(blocks, count, Bar(least=0.40 if count == 1 else 0.55)))
        return measures

    async def handoffs(self) -> list[Measure]:
        """(d) The way of a job from one stage to the next."""
        await hand_off(self.client, self.append, jobs=5)
        blocks = []
        for at in range(self.plan.blocks):
            blocks.append(await hand_off(self.client, self.append, jobs=self.plan.handoffs))
            tell(f"(d) {at + 1}: {1000 * median(blocks[-1].taken):.2f} ms")
        return handed_off(blocks, Bar(most=4))

    async def _warm_up(self, compare: Comparison) -> None:
        """Whatever is made only once is made."""
        await compare.sides(Load(4, 2, SHORT, 0.0), bare_first=True)

    async def _blocks(self, what: str, compare: Comparison, load: Load) -> list[Sides]:
        blocks = []
        for at in range(self.plan.blocks):
            blocks.append(await compare.sides(load, bare_first=at % 2 == 0))
            tell(f"{what}, {at + 1}: {blocks[-1].retained:.3f}")
        return blocks


async def measure(plan: Plan, *, real: bool) -> Result:
    """Start an installation, take every part in its order, and stop it."""
    began, model = datetime.now(UTC), small_model() if real else None
    pipelines = (*PIPELINES, REAL_PIPELINE) if real else PIPELINES
    async with AsyncExitStack() as stack:
        data = stack.enter_context(data_folder())
        facts = machine(data)
        installed = await stack.enter_async_context(Installed(data, pipelines, str(model or ""), beside={"echo": {}}))
        append = await stack.enter_async_context(BareAppend(installed.nats_url))
        bench = Bench(plan, installed, append, stack.enter_context(closing(Client(installed.address))))
        measures = [
            *await bench.scripted(),
            *(await bench.real(model) if model else ()),
            *await bench.accepts(),
            *await bench.handoffs(),
        ]
    return Result.of("overhead", facts, measures, began=began, quick=plan is QUICK)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--no-vllm", action="store_true", help="leave the real model out")
    asked = parser.parse_args()
    plan = QUICK if asked.quick else Plan()
    keep(uvloop.run(measure(plan, real=not (asked.quick or asked.no_vllm))), asked.out)


if __name__ == "__main__":
    main()
