"""Departures: the connections that the server says are gone."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from nats.aio.msg import Msg

from actors.journal.connection import Link

log = logging.getLogger(__name__)

DISCONNECTS = "$SYS.ACCOUNT.*.DISCONNECT"
"""The server's own event, about a millisecond after a client's process is gone. Source: nats-server's system events."""


@asynccontextmanager
async def departures(urls: Sequence[str]) -> AsyncIterator[AsyncIterator[str]]:
    """The names of connections, `<name>:<role>`, as each of them goes. `urls` are the system account's."""
    gone: asyncio.Queue[str] = asyncio.Queue()

    async def take(message: Msg) -> None:
        try:
            name = json.loads(message.data)["client"].get("name", "")
        except (ValueError, KeyError, AttributeError):
            log.warning("a departure cannot be read", extra={"action": "departure_unread"})
            return
        gone.put_nowait(str(name))

    link = await Link.open(list(urls), "departures")
    try:
        await link.subscribe(DISCONNECTS, take)
        yield _each(gone)
    finally:
        await link.close()


async def _each(gone: asyncio.Queue[str]) -> AsyncIterator[str]:
    while True:
        yield await gone.get()
