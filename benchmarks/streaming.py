"""What streaming through Headrace costs: tokens a second, and the time to the first token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import JsonValue

from benchmarks.estimate import estimate, median, percentile, summary
from benchmarks.processes import typical
from benchmarks.result import Bar, Measure
from benchmarks.sides import Sides

LEGS = ("post to hand-off", "hand-off to claim", "claim to delta", "delta to reader")
"""Where the time to the first token goes, by the stamps that their writers gave the first three events."""


def tokens_retained(engine: str, load: str, blocks: Sequence[Sides], bar: Bar) -> Measure:
    """(a) Output tokens a second, POST to SSE, over the bare engine."""
    ours, bare = median([block.rate for block in blocks]), median([block.bare_rate for block in blocks])
    return Measure(
        part="a",
        question=f"tokens/s over the bare engine, {engine}",
        load=load,
        estimate=estimate(blocks, lambda drawn: median([block.retained for block in drawn])),
        bar=bar,
        detail=f"{ours:.0f}/s of {bare:.0f}/s",
        raw={
            "tokens_per_s": [round(block.rate, 2) for block in blocks],
            "bare_tokens_per_s": [round(block.bare_rate, 2) for block in blocks],
            "deltas_per_job": median([followed.deltas for block in blocks for followed in block.followed]),
            "busy_cores": dict(typical([block.busy for block in blocks])),
        },
    )


def first_token_added(engine: str, load: str, blocks: Sequence[Sides], bar: Bar) -> list[Measure]:
    """(b) The time to the first token over the engine's own, in bare appends."""

    def added(drawn: Sequence[Sides], q: float) -> float:
        """One percentile; the engine's own time is taken at its median, so that its jitter counts against us."""
        return percentile(_pooled(drawn, _first_tokens), q) - median(_pooled(drawn, _bare_first_tokens))

    def multiples(q: float) -> Callable[[Sequence[Sides]], float]:
        return lambda drawn: added(drawn, q) / percentile(_pooled(drawn, _appends), q)

    def measure(q: int) -> Measure:
        append = percentile(_pooled(blocks, _appends), q)
        return Measure(
            part="b",
            question=f"added time to first token, {engine}, p{q}",
            load=load,
            estimate=estimate(blocks, multiples(q)),
            unit="appends",
            bar=bar if q == 50 else None,
            detail=f"{1000 * added(blocks, q):.1f} ms; an append {1000 * append:.2f} ms",
            raw=_raw_first_tokens(blocks) if q == 50 else {},
        )

    return [measure(50), measure(99)]


def first_token_ratio(engine: str, load: str, blocks: Sequence[Sides], bar: Bar) -> Measure:
    """(b) The time to the first token over the engine's own."""

    def ratio(drawn: Sequence[Sides]) -> float:
        return median(_pooled(drawn, _first_tokens)) / median(_pooled(drawn, _bare_first_tokens))

    ours, bare = (1000 * median(_pooled(blocks, side)) for side in (_first_tokens, _bare_first_tokens))
    return Measure(
        part="b",
        question=f"time to first token over the bare engine, {engine}",
        load=load,
        estimate=estimate(blocks, ratio),
        bar=bar,
        detail=f"{ours:.0f} ms, bare {bare:.0f} ms",
        raw=_raw_first_tokens(blocks),
    )


def _raw_first_tokens(blocks: Sequence[Sides]) -> dict[str, JsonValue]:
    return {
        "first_token": dict(summary(_pooled(blocks, _first_tokens))),
        "bare_first_token": dict(summary(_pooled(blocks, _bare_first_tokens))),
        "append": dict(summary(_pooled(blocks, _appends))),
        "append_in_a_row": dict(summary(_pooled(blocks, lambda block: block.appends_in_a_row))),
        "legs_p50_ms": {leg: round(1000 * median(taken), 3) for leg, taken in zip(LEGS, _legs(blocks), strict=True)},
        "busy_cores": dict(typical([block.busy for block in blocks])),
    }


def _legs(blocks: Sequence[Sides]) -> list[list[float]]:
    """What each leg took in each job."""
    ways = [
        (seen.posted, *(seen.stamps[kind][0] for kind in ("handoff", "step.started", "delta")), seen.first)
        for block in blocks
        for seen in block.followed
    ]
    return [[way[leg + 1] - way[leg] for way in ways] for leg in range(len(LEGS))]


def _pooled(blocks: Sequence[Sides], what: Callable[[Sides], list[float]]) -> list[float]:
    return [value for block in blocks for value in what(block)]


def _first_tokens(block: Sides) -> list[float]:
    return block.first_tokens


def _bare_first_tokens(block: Sides) -> list[float]:
    return block.bare_first_tokens


def _appends(block: Sides) -> list[float]:
    return block.appends
