"""Lag: how much of a capability's work waits, and how much is running."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from actors.contracts.subjects import LANES, Lane, consumer_name, handoffs
from actors.journal.connection import ApiError, Link
from actors.journal.read import Reader
from actors.journal.topology import JOBS

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


async def stage_lag(link: Link, reader: Reader, stage: str) -> list[Lag]:
    """The lag of each of a stage's lanes. Raises Unanswered when the server cannot be asked."""
    return [await _lane_lag(link, reader, stage, lane) for lane in LANES]


async def _lane_lag(link: Link, reader: Reader, stage: str, lane: Lane) -> Lag:
    try:
        info = await link.api(f"CONSUMER.INFO.{JOBS}.{consumer_name(stage, lane)}")
    except ApiError as error:
        if error.code != NO_CONSUMER:
            raise
        return Lag(lane, 0, 0, None)
    waiting, running = int(info["num_pending"]), int(info["num_ack_pending"])
    oldest = None
    if waiting or running:
        floor = int(info["ack_floor"]["stream_seq"])
        first = await reader.first_after(handoffs(stage, lane), floor)
        oldest = first.stored_at if first else None
    return Lag(lane, waiting, running, oldest)
