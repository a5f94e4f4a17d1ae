"""A mirror: a process's copy of a shelf, which follows it within a second."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from pydantic import BaseModel

from actors.journal.connection import Link, Unanswered
from actors.journal.journal import PatientJournal
from actors.journal.shelf import Shelf

M = TypeVar("M", bound=BaseModel)

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
AGAIN_S = 0.1
LEAST_PAUSE_S = 0.1
"""Who finds something missing may have it looked for at once, but all of them together no more often than this."""


class Mirror(Generic[M]):
    """What is set on a shelf, by name, and for how long that is known to be so.

    It asks the leader, so what was set before a look is seen by it. A server that is not there leaves it as it was.
    """

    def __init__(self, name: str, model: type[M], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._model = model
        self._clock = clock
        self._values: dict[str, M] = {}
        self._seq = 0
        self._looked_at = -math.inf
        self._looking = asyncio.Lock()
        self._shelf: Shelf[M] | None = None
        self.looked: list[Callable[[], None]] = []
        """Called after every look, whether or not it found something new."""

    @property
    def values(self) -> Mapping[str, M]:
        """All that is set."""
        return self._values

    @property
    def age(self) -> float:
        """Seconds since it was certainly complete; infinite before that."""
        return self._clock() - self._looked_at

    @asynccontextmanager
    async def following(self, journals: PatientJournal) -> AsyncIterator[None]:
        """While this is entered, it looks every second."""
        looking = asyncio.create_task(self._keep_looking(journals))
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait({looking})

    async def look(self, *, oldest: float = LEAST_PAUSE_S) -> None:
        """Look now, unless somebody did in the last `oldest` seconds. Raises Unanswered."""
        if self._shelf is None:
            raise Unanswered("there is no connection to nats-server yet")
        asked_at = self._clock()
        async with self._looking:
            if asked_at - self._looked_at < oldest:
                return
            began = self._clock()
            for entry in await self._shelf.since(self._seq):
                self._seq = entry.seq
                if entry.value is None:
                    self._values.pop(entry.name, None)
                else:
                    self._values[entry.name] = entry.value
            self._looked_at = began
        for call in self.looked:
            call()

    async def _keep_looking(self, journals: PatientJournal) -> None:
        told = False
        while True:
            try:
                self.open((await journals.connected(LOOK_EVERY_S)).signals)
                await self.look()
                told = False
            except Unanswered as error:
                if not told:
                    what = {"action": "settings_unread", "shelf": self._name, "reason": str(error)}
                    log.warning("settings cannot be read", extra=what)
                told = True
            await asyncio.sleep(AGAIN_S if told else LOOK_EVERY_S)

    def open(self, link: Link) -> None:
        """It looks over this connection from now on; the first one stays."""
        if self._shelf is None:
            self._shelf = Shelf(link, self._name, self._model)
