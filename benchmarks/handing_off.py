"""What a hand-off costs: from the output on its way into the log to the next stage's function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.bare_append import BareAppend
from benchmarks.estimate import estimate, percentile, summary
from benchmarks.followed import Client
from benchmarks.result import Bar, Measure


@dataclass(frozen=True, slots=True)
class HandedOff:
    """One block: hand-offs and bare appends by turns."""

    taken: list[float]
    appends: list[float]


async def hand_off(client: Client, append: BareAppend, *, jobs: int) -> HandedOff:
    """Take one block."""
    taken: list[float] = []
    appends: list[float] = []
    for _ in range(jobs):
        taken.append(await _hand_off(client))
        appends.extend(await append.times(1))
    return HandedOff(taken, appends)


def handed_off(blocks: Sequence[HandedOff], bar: Bar) -> list[Measure]:
    """(d) The hand-off between two stages, in bare appends."""
    taken, appends = _taken(blocks), _appends(blocks)

    def multiples(q: float) -> Callable[[Sequence[HandedOff]], float]:
        return lambda drawn: percentile(_taken(drawn), q) / percentile(_appends(drawn), q)

    def measure(q: int) -> Measure:
        return Measure(
            part="d",
            question=f"hand-off between stages, p{q}",
            load="1 job",
            estimate=estimate(blocks, multiples(q)),
            unit="appends",
            bar=bar if q == 50 else None,
            detail=f"{1000 * percentile(taken, q):.1f} ms; an append {1000 * percentile(appends, q):.2f} ms",
            raw={"handoff": dict(summary(taken)), "append": dict(summary(appends))} if q == 50 else {},
        )

    return [measure(50), measure(99)]


async def _hand_off(client: Client) -> float:
    """Seconds from the first stage's stamp on its output, made right before it appends, to the second stage's start."""
    seen = await client.follow("relay", {"text": "", "tokens": 0})
    began = seen.answer["began"]
    assert isinstance(began, float)
    return began - seen.stamps["handoff"][1]


def _taken(blocks: Sequence[HandedOff]) -> list[float]:
    return [seconds for block in blocks for seconds in block.taken]


def _appends(blocks: Sequence[HandedOff]) -> list[float]:
    return [seconds for block in blocks for seconds in block.appends]
