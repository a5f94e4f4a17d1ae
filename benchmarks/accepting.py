"""What accepting jobs costs: answers a second over those of a bare Serve echo, over the same connections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.estimate import estimate, median, summary
from benchmarks.hammer import Hammered, hammer
from benchmarks.processes import Processes, Shares, typical
from benchmarks.result import Bar, Measure
from benchmarks.wire import Connection


@dataclass(frozen=True, slots=True)
class Request:
    """The bytes that are sent, and the status that they have to be answered with."""

    data: bytes
    status: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """One block: the same connections, the same body, both answers."""

    ours: Hammered
    echo: Hammered
    busy: Shares
    echo_busy: Shares

    @property
    def ratio(self) -> float:
        return self.ours.rate / self.echo.rate


async def accept(
    connections: Sequence[Connection],
    submit: Request,
    echo: Request,
    processes: Processes,
    *,
    seconds: float,
    echo_first: bool,
) -> Accepted:
    """Take one block."""
    if echo_first:
        echoed, echo_busy = await _hammer(connections, echo, processes, seconds)
        ours, busy = await _hammer(connections, submit, processes, seconds)
    else:
        ours, busy = await _hammer(connections, submit, processes, seconds)
        echoed, echo_busy = await _hammer(connections, echo, processes, seconds)
    return Accepted(ours, echoed, busy, echo_busy)


def accepted(blocks: Sequence[Accepted], connections: int, bar: Bar) -> Measure:
    """(c) Accepted jobs a second over a bare Serve echo."""
    ours, echo = (
        median([side.rate for side in sides]) for sides in zip(*((b.ours, b.echo) for b in blocks), strict=True)
    )
    taken = summary([seconds for block in blocks for seconds in block.ours.taken])
    echo_taken = summary([seconds for block in blocks for seconds in block.echo.taken])
    return Measure(
        part="c",
        question="accepted jobs/s over a bare Serve echo",
        load="1 connection" if connections == 1 else f"{connections} connections",
        estimate=estimate(blocks, lambda drawn: median([block.ratio for block in drawn])),
        bar=bar,
        detail=(
            f"{ours:.0f}/s of {echo:.0f}/s; p50 {taken['p50_ms']:.3g} ms of {echo_taken['p50_ms']:.3g}, "
            f"p99 {taken['p99_ms']:.3g} of {echo_taken['p99_ms']:.3g}"
        ),
        raw={
            "accepted_per_s": [round(block.ours.rate, 1) for block in blocks],
            "echoed_per_s": [round(block.echo.rate, 1) for block in blocks],
            "accept": dict(taken),
            "echo": dict(echo_taken),
            "busy_cores": dict(typical([block.busy for block in blocks])),
            "echo_busy_cores": dict(typical([block.echo_busy for block in blocks])),
        },
    )


async def _hammer(
    connections: Sequence[Connection], request: Request, processes: Processes, seconds: float
) -> tuple[Hammered, Shares]:
    with processes.watched() as busy:
        hammered = await hammer(connections, request.data, seconds=seconds)
    if set(hammered.statuses) != {request.status}:
        raise RuntimeError(f"expected answers of {request.status}: {dict(hammered.statuses)}")
    return hammered, busy
