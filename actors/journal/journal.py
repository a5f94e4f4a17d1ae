"""A process's access to the log: its connections by role, and what works over them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Self

from actors.journal.append import Appender
from actors.journal.connection import ApiError, Link, Unanswered
from actors.journal.read import Reader

log = logging.getLogger(__name__)

ROLES = ("append", "replay", "live", "pull", "signals")
"""What a process has a connection each for; it is named `<process>:<role>`."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0


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
        links = await asyncio.gather(*(Link.open(list(urls), f"{name}:{role}") for role in ROLES))
        appends, replays, live, pulls, signals = links
        try:
            yield cls(Appender(appends, rng or Random()), Reader(replays), appends, replays, live, pulls, signals)
        finally:
            await asyncio.gather(*(link.close() for link in links))

    @property
    def is_up(self) -> bool:
        """Whether every role is connected right now."""
        return all(link.is_up for link in self._links)

    async def wait_until_up(self) -> None:
        for link in self._links:
            await link.wait_until_up()

    @property
    def _links(self) -> tuple[Link, ...]:
        return self.appends, self.replays, self.live, self.pulls, self.signals


class PatientJournal:
    """The log for a process that must answer whether or not there is a server: it is opened beside what else goes on.

    An async context manager that enters at once. `prepare` is what has to be done before anybody uses the log; while it
    is refused it is tried again.
    """

    def __init__(
        self, urls: Sequence[str], name: str, prepare: Callable[[Journal], Awaitable[None]] | None = None
    ) -> None:
        self._urls = urls
        self._name = name
        self._prepare = prepare
        self._journal: Journal | None = None
        self._opened = asyncio.Event()
        self._missing = "there is no connection to nats-server yet"

    async def __aenter__(self) -> Self:
        self._keeping = asyncio.create_task(self._keep())
        self._keeping.add_done_callback(self._on_end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeping.cancel()
        await asyncio.wait({self._keeping})

    async def opened(self, within: float) -> Journal:
        """The log, once it was opened; its connections may be down again. Raises Unanswered after `within` seconds."""
        if self._journal is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._opened.wait()
        if self._journal is None:
            raise Unanswered(self._missing)
        return self._journal

    async def connected(self, within: float) -> Journal:
        """The log, once every role of it is connected. Raises Unanswered after `within` seconds."""
        journal = await self.opened(within)
        if not journal.is_up:
            try:
                async with asyncio.timeout(within):
                    await journal.wait_until_up()
            except TimeoutError:
                raise Unanswered("the connection to nats-server is down") from None
        return journal

    async def _keep(self) -> None:
        async with Journal.open(self._urls, self._name) as journal:
            await self._make_ready(journal)
            self._journal = journal
            self._opened.set()
            await asyncio.Event().wait()

    def _on_end(self, keeping: asyncio.Task[None]) -> None:
        if not keeping.cancelled() and (error := keeping.exception()):
            self._missing = f"the log cannot be opened: {error}"
            log.error("the log cannot be opened", extra={"action": "log_not_opened", "reason": str(error)})

    async def _make_ready(self, journal: Journal) -> None:
        pause = FIRST_PAUSE_S
        while self._prepare:
            try:
                await self._prepare(journal)
                return
            except ApiError as error:
                self._missing = f"the log cannot be made: {error}"
                log.error("the log cannot be made", extra={"action": "log_not_made", "reason": str(error)})
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
