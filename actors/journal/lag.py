"""Lag: how much of a capability's work waits, and how much is running."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from actors.contracts.subjects import LANES, Lane, consumer_name, handoffs
from actors.journal.connection import ApiError, Link, Unanswered
from actors.journal.read import Reader
from actors.journal.topology import JOBS, NO_STREAM

NO_CONSUMER = 10014


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
    """One stage's hand-offs in one lane: how many wait, how many are with workers, and how many have left so far.

    `left` counts deliveries that are over, a retry among them; it may go back when the server is started again. What
    waits is behind the sequence `upto`.
    """

    lane: Lane
    waiting: int
    running: int
    left: int
    upto: int = 0


async def stage_flows(link: Link, stages: Iterable[str]) -> dict[str, list[Flow]]:
    """What goes through each of these stages, by lane. Raises Unanswered when the server cannot be asked."""
    names = list(stages)
    flows = await asyncio.gather(*(_flow(link, stage, lane) for stage in names for lane in LANES))
    return {stage: flows[i * len(LANES) : (i + 1) * len(LANES)] for i, stage in enumerate(names)}


async def stage_lag(link: Link, reader: Reader, stage: str) -> list[Lag]:
    """The lag of each of a stage's lanes. Raises Unanswered when the server cannot be asked."""
    return [await _lane_lag(link, reader, stage, lane) for lane in LANES]


async def waits_since(reader: Reader, stage: str, flow: Flow) -> datetime | None:
    """Since when the first that waits in this lane has waited, None when none does. Raises Unanswered."""
    first = await reader.after(handoffs(stage, flow.lane), flow.upto, most=1) if flow.waiting else []
    return first[0].stored_at if first else None


async def ack_floor(link: Link, stage: str, lane: Lane) -> int:
    """The sequence up to which every hand-off of this stage and lane is acknowledged. Raises Unanswered."""
    info = await _consumer(link, stage, lane)
    return int(info["ack_floor"]["stream_seq"]) if info else 0


async def held(link: Link, stage: str, lane: Lane) -> tuple[int, int]:
    """Between which sequences, over the first and up to the second, hand-offs are delivered and not acknowledged.

    Some in between are acknowledged; none outside is under way. Raises Unanswered.
    """
    info = await _consumer(link, stage, lane)
    return (int(info["ack_floor"]["stream_seq"]), int(info["delivered"]["stream_seq"])) if info else (0, 0)


async def _flow(link: Link, stage: str, lane: Lane) -> Flow:
    info = await _consumer(link, stage, lane)
    if info is None:
        return Flow(lane, 0, 0, 0)
    running, delivered = int(info["num_ack_pending"]), info["delivered"]
    left, upto = int(delivered["consumer_seq"]) - running, int(delivered["stream_seq"])
    return Flow(lane, int(info["num_pending"]), running, left, upto)


async def _lane_lag(link: Link, reader: Reader, stage: str, lane: Lane) -> Lag:
    info = await _consumer(link, stage, lane)
    if info is None:
        return Lag(lane, 0, 0, None)
    waiting, running = int(info["num_pending"]), int(info["num_ack_pending"])
    oldest = None
    if waiting or running:
        first = await reader.after(handoffs(stage, lane), int(info["ack_floor"]["stream_seq"]), most=1)
        oldest = first[0].stored_at if first else None
    return Lag(lane, waiting, running, oldest)


async def _consumer(link: Link, stage: str, lane: Lane) -> dict[str, Any] | None:
    try:
        return await link.api(f"CONSUMER.INFO.{JOBS}.{consumer_name(stage, lane)}")
    except ApiError as error:
        if error.code in (NO_CONSUMER, NO_STREAM):
            return None
        raise Unanswered(f"the lag of {stage} is not known: {error}") from error  # nobody leads it just now
