"""A job's stream, read to its end as a client reads it."""

from __future__ import annotations

from collections.abc import Sequence

from actors.client import AsyncHeadrace
from actors.replies import Delta, Event


async def read(client: AsyncHeadrace, job: str) -> list[Event]:
    """Every event, the outcome last."""
    return [event async for event in client.events(job)]


def text_of(events: Sequence[Event]) -> str:
    """What was said in them."""
    return "".join(event.text for event in events if isinstance(event, Delta))
