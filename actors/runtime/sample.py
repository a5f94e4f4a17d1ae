"""A sample: the sizes of some of the hand-offs that wait, which stand for all of them."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from time import monotonic

from actors.contracts.events import Record
from actors.contracts.subjects import Queue
from actors.journal.lag import Flow
from actors.journal.read import Reader

DRAWN = 4
"""How many hand-offs are drawn in a look."""

KEPT = 64
"""Of how many the size is kept, as long as they wait."""

BYTES_PER_S = 1 << 20
"""How many bytes a second are read for it: after large hand-offs no more are drawn for a while."""

PAUSE_S = 1.0
"""How long no more are drawn once so many are known, in seconds: to find the newest takes the server longer, the more
subjects there are."""


class Sample:
    """Draws a few in every look, at random over all that waits, and keeps their sizes for as long as they wait.

    A look reads two messages for each of them, of 1 MiB at most, and nothing while all that waits is known. Where as
    many as are kept are known, a few new ones take the place of the oldest every second.
    """

    def __init__(self, reader: Reader, rng: Random, *, now: Callable[[], float] = monotonic) -> None:
        self._reader = reader
        self._rng = rng
        self._now = now
        self._sizes: dict[tuple[Queue, int], int] = {}
        self._rests_until = 0.0

    async def sizes(self, flows: Sequence[Flow]) -> list[int]:
        """The sizes of those that are known, in bytes; none when nothing waits. Raises Unanswered."""
        waiting = [flow for flow in flows if flow.waiting]
        upto = {flow.queue: flow.upto for flow in waiting}
        self._sizes = {
            (queue, seq): size for (queue, seq), size in self._sizes.items() if queue in upto and seq > upto[queue]
        }
        if len(self._sizes) < sum(flow.waiting for flow in waiting) and self._now() >= self._rests_until:
            await self._draw(waiting)
        return list(self._sizes.values())

    async def _draw(self, waiting: Sequence[Flow]) -> None:
        drawn = self._rng.choices(waiting, [flow.waiting for flow in waiting], k=DRAWN)
        found = await asyncio.gather(*(self._from(flow, times) for flow, times in Counter(drawn).items()))
        for flow, records in zip(Counter(drawn), found, strict=True):
            self._sizes |= {(flow.queue, record.seq): len(record.data) for record in records}
        read = sum(len(record.data) for records in found for record in records)
        self._rests_until = self._now() + max(read / BYTES_PER_S, PAUSE_S if len(self._sizes) >= KEPT else 0.0)
        self._sizes = dict(itertools.islice(self._sizes.items(), max(0, len(self._sizes) - KEPT), None))

    async def _from(self, flow: Flow, times: int) -> list[Record]:
        """Some that wait in a queue: the newest, and so many from anywhere before it."""
        newest = await self._reader.newest(flow.queue.handoffs)
        if newest is None or newest.seq <= flow.upto:
            return []
        places = (self._rng.randrange(flow.upto, newest.seq) for _ in range(times))
        pages = await asyncio.gather(*(self._reader.after(flow.queue.handoffs, place, most=1) for place in places))
        return [newest, *itertools.chain(*pages)]
