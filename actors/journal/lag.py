"""Lag: how much of a capability's work waits, and how much is running."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from actors.contracts.subjects import LANES, Lane, Queue, plain_queues
from actors.journal.connection import ApiError, Link, Unanswered
from actors.journal.read import Reader
from actors.journal.topology import JOBS, NO_CONSUMER, NO_STREAM, queues


@dataclass(frozen=True, slots=True)
class Lag:
    """One stage's work in one lane. `oldest` is when the oldest hand-off that is not acknowledged was stored.

    A hand-off that waits for a retry counts as running, because its consumer holds it.
    """

    lane: Lane
    waiting: int
    running: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Flow:
    """What goes through a queue: how many hand-offs wait, how many are with workers, and how many have left so far.

    `left` counts deliveries that are over, a retry among them; it may go back when the server is started again. What
    waits is behind the sequence `upto`.
    """

    queue: Queue
    waiting: int
    running: int
    left: int
    upto: int = 0

    @property
    def lane(self) -> Lane:
        return self.queue.lane


async def queues_of(link: Link, stages: Iterable[str]) -> list[Queue]:
    """Every queue of these stages: those that there always are, and those of shares. Raises Unanswered."""
    named = list(stages)
    try:
        shared = [queue for queue in await queues(link) if queue.share and queue.stage in named]
    except ApiError as error:
        if error.code != NO_STREAM:
            raise Unanswered(f"the queues are not known: {error}") from error  # nobody leads it just now
        shared = []
    return [*plain_queues(named), *shared]


async def stages_in_log(link: Link) -> list[str]:
    """Every stage that anything was ever handed to here, also those of versions that are gone. Raises Unanswered."""
    try:
        return list(dict.fromkeys(queue.stage for queue in await queues(link)))
    except ApiError as error:
        if error.code == NO_STREAM:
            return []
        raise Unanswered(f"the queues are not known: {error}") from error


async def stage_flows(link: Link, stages: Iterable[str]) -> dict[str, list[Flow]]:
    """What goes through each of these stages, by queue. Raises Unanswered when the server cannot be asked."""
    named = list(stages)
    flows = await asyncio.gather(*(flow_of(link, queue) for queue in await queues_of(link, named)))
    return {stage: [flow for flow in flows if flow.queue.stage == stage] for stage in named}


async def stage_lag(link: Link, reader: Reader, stage: str) -> list[Lag]:
    """The lag of each of a stage's lanes, all their shares together. Raises Unanswered when nobody can be asked."""
    found = await queues_of(link, [stage])
    lags = await asyncio.gather(*(_queue_lag(link, reader, queue) for queue in found))
    return [_together(lane, [lag for lag in lags if lag.lane == lane]) for lane in LANES]


async def waits_since(reader: Reader, flow: Flow) -> datetime | None:
    """Since when the first that waits in a queue has waited, None when none does. Raises Unanswered."""
    first = await reader.after(flow.queue.handoffs, flow.upto, most=1) if flow.waiting else []
    return first[0].stored_at if first else None


async def ack_floor(link: Link, queue: Queue) -> int:
    """The sequence up to which every hand-off in a queue is acknowledged. Raises Unanswered."""
    info = await _consumer(link, queue)
    return int(info["ack_floor"]["stream_seq"]) if info else 0


async def held(link: Link, queue: Queue) -> tuple[int, int]:
    """Between which sequences, over the first and up to the second, hand-offs are delivered and not acknowledged.

    Some in between are acknowledged; none outside is under way. Raises Unanswered.
    """
    info = await _consumer(link, queue)
    return (int(info["ack_floor"]["stream_seq"]), int(info["delivered"]["stream_seq"])) if info else (0, 0)


async def flow_of(link: Link, queue: Queue) -> Flow:
    """What goes through one queue. Raises Unanswered."""
    info = await _consumer(link, queue)
    if info is None:
        return Flow(queue, 0, 0, 0)
    running, delivered = int(info["num_ack_pending"]), info["delivered"]
    left, upto = int(delivered["consumer_seq"]) - running, int(delivered["stream_seq"])
    return Flow(queue, int(info["num_pending"]), running, left, upto)


async def _queue_lag(link: Link, reader: Reader, queue: Queue) -> Lag:
    info = await _consumer(link, queue)
    if info is None:
        return Lag(queue.lane, 0, 0, None)
    waiting, running = int(info["num_pending"]), int(info["num_ack_pending"])
    oldest = None
    if waiting or running:
        first = await reader.after(queue.handoffs, int(info["ack_floor"]["stream_seq"]), most=1)
        oldest = first[0].stored_at if first else None
    return Lag(queue.lane, waiting, running, oldest)


def _together(lane: Lane, lags: list[Lag]) -> Lag:
    oldest = [lag.oldest for lag in lags if lag.oldest]
    waiting, running = sum(lag.waiting for lag in lags), sum(lag.running for lag in lags)
    return Lag(lane, waiting, running, min(oldest, default=None))


async def _consumer(link: Link, queue: Queue) -> dict[str, Any] | None:
    try:
        return await link.api(f"CONSUMER.INFO.{JOBS}.{queue.consumer}")
    except ApiError as error:
        if error.code in (NO_CONSUMER, NO_STREAM):
            return None
        raise Unanswered(f"the lag of {queue.stage} is not known: {error}") from error  # nobody leads it just now
