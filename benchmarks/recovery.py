"""What crashes cost, beside the bare thing, in one interleaved run: `python -m benchmarks.recovery`."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from pydantic import JsonValue

from actors.engines import Vllm
from actors.journal.journal import Journal
from actors.journal.server import EmbeddedServer
from actors.journal.server_config import free_ports, is_free
from benchmarks.command import data_folder, keep, options, small_model
from benchmarks.hands import HOST, Staff, staff
from benchmarks.machine import machine
from benchmarks.pipelines import TOKEN_S, generation, retelling
from benchmarks.restarting import BareServer, listens, restart, restarted
from benchmarks.result import Bar, Measure, Result
from benchmarks.taking_over import Load, Relief, taken_over
from benchmarks.tally import Tallied
from benchmarks.wasting import waste, wasted
from benchmarks.wire import Address

PIPELINES = ("benchmarks.pipelines:retelling",)
REAL_PIPELINES = (*PIPELINES, "benchmarks.pipelines:generation")

SCRIPTED_LOAD = Load(words=10, tokens=48, before=8)
REAL_LOAD = Load(words=400, tokens=48, before=8)

RECOVERED, NOT_WASTED, RESTARTED = Bar(most=1.5), Bar(most=1.02), Bar(most=3)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure: kills for each prefill of the scripted engine and for vLLM, blocks of jobs, and crashes."""

    prefills_s: tuple[float, ...] = (0.1, 1.0)
    kills: int = 20
    real_kills: int = 6
    blocks: int = 8
    jobs: int = 100
    tokens: int = 64
    crashes: int = 10


QUICK = Plan(prefills_s=(0.1,), kills=2, blocks=2, jobs=10, tokens=16, crashes=1)


async def takeovers(hired: Staff, journal: Journal, plan: Plan, model: Path | None) -> list[Measure]:
    """(a) SIGKILL of a worker to the next new token at a reader."""
    measures = []
    for prefill in plan.prefills_s:
        async with Tallied(says="turn " * 256, first_token_s=prefill, token_s=TOKEN_S) as engine:
            relief = Relief(hired, journal, retelling, engine, SCRIPTED_LOAD, first_token_s=prefill)
            measures += taken_over(f"scripted engine ({prefill:g} s)", await relief.kills(plan.kills), RECOVERED)
    if model:
        async with Vllm(str(model)) as real:
            relief = Relief(hired, journal, generation, real, REAL_LOAD)
            measures += taken_over("vLLM", await relief.kills(plan.real_kills), RECOVERED)
    return measures


async def measure(plan: Plan, *, real: bool) -> Result:
    """Start a server and what works for it, take every part in its order, and stop it all."""
    began, model = datetime.now(UTC), small_model() if real else None
    async with AsyncExitStack() as stack:
        data = stack.enter_context(data_folder())
        facts = machine(data)
        server = await stack.enter_async_context(EmbeddedServer(data / "nats"))
        settings: dict[str, JsonValue] = {
            "data": str(data),
            "nats_url": server.url,
            "nats_sys_url": server.sys_url,
            "max_bytes": server.jobs_bytes,
            "audit_max_bytes": server.audit_bytes,
            "pipelines": list(REAL_PIPELINES if real else PIPELINES),
            "model": str(model or ""),
        }
        hired = await stack.enter_async_context(staff(settings))
        [port] = free_ports(1, is_free)
        await hired.hire("clock")
        await hired.hire("ingress", port=port)
        await listens(Address(HOST, port))
        journal = await stack.enter_async_context(Journal.open([server.url], "benchmark"))
        (data / "bare").mkdir()
        bare = await stack.enter_async_context(BareServer(data / "bare"))
        path = f"/v1/pipelines/{retelling.name}/jobs"
        # First of all: as long as neither server has a store to recover, what is left is what is ours.
        crashes = await restart(server, bare, Address(HOST, port), path, times=plan.crashes)
        measures = await takeovers(hired, journal, plan, model)
        blocks = await waste(hired, journal, data, blocks=plan.blocks, jobs=plan.jobs, tokens=plan.tokens)
        measures += [*wasted(blocks, NOT_WASTED), *restarted(crashes, RESTARTED)]
    return Result.of("recovery", facts, measures, began=began, quick=plan is QUICK)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--no-vllm", action="store_true", help="leave the real model out")
    asked = parser.parse_args()
    logging.getLogger("actors").setLevel(logging.ERROR)  # that connections break is what is measured
    plan = QUICK if asked.quick else Plan()
    keep(uvloop.run(measure(plan, real=not (asked.quick or asked.no_vllm))), asked.out)


if __name__ == "__main__":
    main()
