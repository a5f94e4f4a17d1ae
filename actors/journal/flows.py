"""Flows: what goes through the queues of one stage, kept up with few questions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

from nats.aio.msg import Msg

from actors.contracts.subjects import Queue, arrivals_subject
from actors.journal.connection import Link
from actors.journal.lag import Flow, flow_of, queues_of

BLIND = 8
"""How many queues in which nothing was are asked in each look, in turn: what came to one and was not told is found by
them."""

LISTED_S = 5.0
"""How long it may take to notice a queue that nobody told of, in seconds."""

SETTLED = 3
"""In how many looks a queue is asked after something was said to have come to it: the server may be slower than the
word."""


class Flows:
    """Asks the lanes themselves, the shares in which something was, and those that something was said to come to.

    Of the other shares it asks a few in each look, so a look costs as much as there are tenants that have something.
    Whoever appends to a share says so beside the log; where that is lost, what came to it counts as nothing until it is
    asked in turn: all 96 that there may be are, within 12 looks.
    """

    def __init__(self, link: Link, stage: str, *, now: Callable[[], float] = monotonic) -> None:
        self._link = link
        self._stage = stage
        self._now = now
        self._flows: dict[Queue, Flow] = {}
        self._told: dict[Queue, int] = {}
        self._turn: deque[Queue] = deque()
        self._list_at = 0.0

    async def open(self) -> None:
        """Begin to listen to what is said, however long the server takes; made once, before the first look."""
        await self._link.listen(arrivals_subject(self._stage), self._on_word)
        self._link.reconnected.append(self._on_reconnect)

    async def look(self) -> list[Flow]:
        """What goes through each queue. Raises Unanswered when the server cannot be asked."""
        if self._now() >= self._list_at:
            for queue in await queues_of(self._link, [self._stage]):
                self._know(queue)
            self._list_at = self._now() + LISTED_S
        asked = self._due()
        for flow in await asyncio.gather(*(flow_of(self._link, queue) for queue in asked)):
            self._flows[flow.queue] = flow
        self._told = {queue: left - 1 for queue, left in self._told.items() if left > 1}
        return list(self._flows.values())

    def _due(self) -> set[Queue]:
        self._turn.rotate(-BLIND)
        blind = list(self._turn)[:BLIND]
        moving = (queue for queue, flow in self._flows.items() if not queue.share or flow.waiting or flow.running)
        return {*moving, *self._told, *blind}

    def _know(self, queue: Queue) -> None:
        if queue not in self._flows:
            self._flows[queue] = Flow(queue, 0, 0, 0)
            self._told[queue] = 1
            if queue.share:
                self._turn.append(queue)

    async def _on_word(self, message: Msg) -> None:
        if queue := Queue.parse(f"{self._stage}-{message.subject.rpartition('.')[2]}"):
            self._know(queue)
            self._told[queue] = SETTLED

    def _on_reconnect(self) -> None:
        """What was said while the connection was down was not heard: all are asked again."""
        self._told |= dict.fromkeys(self._flows, SETTLED)
        self._list_at = 0.0
