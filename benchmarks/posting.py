"""Posting: jobs put into the log as the ingress puts them there, without the HTTP around it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from actors.contracts.events import HandOff, Origin
from actors.contracts.messages import Message, Packed
from actors.contracts.subjects import LOCAL, Address, Lane, job_id, new_key
from actors.http.acceptance import accept
from actors.journal.journal import Journal
from actors.pipeline import Pipeline


async def post(
    journal: Journal,
    pipeline: Pipeline,
    message: Message,
    *,
    lane: Lane = "standard",
    tenant: str = LOCAL,
    share: int = 0,
) -> str:
    """A new job; its id, once it is on disk. A tenant's share has its queues by then."""
    now, job = datetime.now(UTC), job_id(tenant, new_key())
    origin = Origin(
        pipeline=pipeline.name,
        version=pipeline.version,
        fingerprint="",
        created=now,
        deadline=now + timedelta(hours=1),
    )
    handoff = HandOff(
        n=1,
        by="ingress/benchmark",
        at=now,
        stage=pipeline.entry.name,
        origin=origin,
        message=Packed.of(message),
    )
    await accept(journal, Address(lane, tenant, job, share), handoff)
    return job
