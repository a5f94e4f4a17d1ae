"""Shares: which share of the lanes a tenant's jobs go to, and that its queues are there."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from actors.contracts.limits import LIMITS, Limits, least_taken
from actors.contracts.subjects import LOCAL, Lane, Queue
from actors.journal.connection import ApiError, Link, Unanswered
from actors.journal.mirror import Mirror
from actors.journal.shelf import Outdated, Shelf
from actors.journal.topology import NoMoreQueues, ensure_queue

log = logging.getLogger(__name__)


class Shares:
    """Gives every tenant a share with its first job. Tenants only have one together when there are more than shares.

    The tenant of an installation without keys stays in the lanes themselves, which costs nothing; and so do jobs for
    which no more queues can be made: they wait among all who have no share, rather than be refused.
    """

    def __init__(self, limits: Mirror[Limits], *, ack_wait: float) -> None:
        self._limits = limits
        self._ack_wait = ack_wait
        self._given: dict[str, int] = {}
        self._there: set[Queue] = set()

    async def of(self, link: Link, tenant: str, lane: Lane, stages: Iterable[str]) -> int:
        """The share of a tenant; there is a queue for what it hands off to these stages in this lane.

        Raises Unanswered.
        """
        if tenant == LOCAL:
            return 0
        known = self._limits.values.get(tenant)
        share = (known.share if known else None) or self._given.get(tenant) or await self._give(link, tenant)
        try:
            for queue in [Queue(stage, lane, share) for stage in stages]:
                if queue not in self._there:
                    await ensure_queue(link, queue, ack_wait=self._ack_wait)
                    self._there.add(queue)
        except NoMoreQueues as error:
            log.warning("a job goes without a share", extra={"action": "no_more_queues", "reason": str(error)})
            return 0
        except ApiError as error:
            raise Unanswered(f"the queues of share {share} cannot be made: {error}") from error
        return share

    async def _give(self, link: Link, tenant: str) -> int:
        shelf = Shelf(link, LIMITS, Limits)
        while True:
            entries = await shelf.all()
            entry = await shelf.get(tenant)
            limits = entry.value or Limits()
            share = limits.share or least_taken(one.value for one in entries if one.value)
            try:
                if limits.share is None:
                    await shelf.put(tenant, limits.model_copy(update={"share": share}), expect=entry.seq)
            except Outdated:
                continue
            self._given[tenant] = share
            return share
