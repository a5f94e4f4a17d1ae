"""A process's access to the log: its connections by role, and what works over them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

from actors.journal.append import Appender
from actors.journal.connection import Link
from actors.journal.read import Reader


@dataclass(frozen=True, slots=True)
class Journal:
    """The log, opened. Every role has a connection of its own, named `<name>:<role>`."""

    appender: Appender
    reader: Reader
    appends: Link
    replays: Link
    live: Link
    pulls: Link
    signals: Link

    @classmethod
    @asynccontextmanager
    async def open(cls, urls: Sequence[str], name: str, rng: Random | None = None) -> AsyncIterator[Journal]:
        """Connect every role, however long the server takes to appear; let go of them all on the way out."""
        roles = ("append", "replay", "live", "pull", "signals")
        links = await asyncio.gather(*(Link.open(list(urls), f"{name}:{role}") for role in roles))
        appends, replays, live, pulls, signals = links
        try:
            yield cls(Appender(appends, rng or Random()), Reader(replays), appends, replays, live, pulls, signals)
        finally:
            await asyncio.gather(*(link.close() for link in links))
