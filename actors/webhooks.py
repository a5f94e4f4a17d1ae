"""Webhooks: what becomes of jobs is told to the endpoints that their tenants have named."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Sequence
from functools import partial
from random import Random

from actors.contracts.delivery import SCHEDULE
from actors.contracts.errors import HeadraceError
from actors.herald import Herald, until_there
from actors.http.egress import Egress
from actors.journal.connection import Unanswered
from actors.journal.endpoints import Directory, Endpoints
from actors.journal.hooks import STATUS, Hooks
from actors.journal.journal import Journal
from actors.postman import WITHIN_S, Postman
from actors.runtime.settings import Settings
from actors.runtime.writer import Clock, utc_now

log = logging.getLogger(__name__)

AGAIN_S = 10.0
"""How long it waits after what it was set to cannot be used, in seconds."""

PRUNE_EVERY_S = 10.0


class Webhooks:
    """Makes deliveries of what happens to jobs, and carries them. What it has to do is in the log, and nowhere else.

    It may be absent, and one is enough; of two, both may carry what is due, which receivers know by its id. Nothing
    waits for it: no reader, no stage, and not the clock.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        now: Clock = utc_now,
        schedule: Sequence[float] = SCHEDULE,
        rng: Random | None = None,
    ) -> None:
        self._settings = settings
        self._now = now
        self._schedule = tuple(schedule)
        self._rng = rng or Random()
        self._name = f"webhooks-{secrets.token_hex(4)}"
        self._stopping = asyncio.Event()
        self._within = 0.0

    async def run(self) -> None:
        """Work until stopped."""
        async with Journal.open(self._settings.nats_urls, self._name) as journal, contextlib.AsyncExitStack() as stack:
            if egress := await self._egress(stack):
                await self._work(journal, egress)

    async def stop(self, within: float) -> None:
        """Begin no further attempt, and let those that are under way end within about so many seconds."""
        self._within = within
        self._stopping.set()

    async def check(self) -> None:
        """It is well as long as it runs."""

    async def _work(self, journal: Journal, egress: Egress) -> None:
        hooks, directory = Hooks(journal.appends), Directory(journal.signals)
        endpoints = Endpoints(journal.signals)
        postman = Postman(egress, directory, endpoints, hooks, now=self._now, rng=self._rng, schedule=self._schedule)
        herald = Herald(directory, hooks, postman.take, postman.has_room, now=self._now)
        await until_there(journal, self._settings.nats_replicas)
        await journal.signals.answer(STATUS, partial(_said, postman))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(herald.run(journal, replicas=self._settings.nats_replicas)),
                group.create_task(postman.run()),
                group.create_task(self._keep_pruning(Hooks(journal.replays))),
            ]
            await self._stopping.wait()
            tasks[0].cancel()
            await postman.drain(self._within)
            for task in tasks:
                task.cancel()

    async def _egress(self, stack: contextlib.AsyncExitStack) -> Egress | None:
        """What carries requests outside; None when it is stopped before it could be made."""
        while not self._stopping.is_set():
            try:
                # What a receiver says beside its status is nothing to us, however long, slow or packed it is.
                egress = Egress(within=WITHIN_S, most_bytes=0).with_settings(self._settings)
                return await stack.enter_async_context(egress)
            except HeadraceError as error:
                log.error("webhooks cannot be carried", extra={"action": "egress_unusable", "reason": str(error)})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await self._stopping.wait()
        return None

    async def _keep_pruning(self, hooks: Hooks) -> None:
        while True:
            with contextlib.suppress(Unanswered):
                await hooks.prune()
            await asyncio.sleep(PRUNE_EVERY_S)


def _said(postman: Postman, tenant: bytes) -> bytes:
    """How many deliveries wait, and whether this tenant may have more."""
    return json.dumps({"waiting": postman.waiting, "has_room": postman.has_room(tenant.decode())}).encode()
