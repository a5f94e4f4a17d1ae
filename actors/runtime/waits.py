"""Waits: for how long the first job that waits for a stage has waited."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from actors.contracts.subjects import Queue
from actors.journal.lag import Flow, waits_since
from actors.journal.read import Reader


class Waits:
    """Knows since when the first in each queue waits; the same one waits first until another is delivered, so it is
    read once.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._since: dict[Queue, tuple[int, datetime | None]] = {}

    async def longest(self, flows: Sequence[Flow]) -> float:
        """The longest wait in any of these queues, in seconds; 0 when nothing waits. Raises Unanswered."""
        since = [await self._first_since(flow) for flow in flows]
        now = datetime.now(UTC)
        return max(((now - at).total_seconds() for at in since if at), default=0.0)

    async def _first_since(self, flow: Flow) -> datetime | None:
        if not flow.waiting:
            self._since.pop(flow.queue, None)
            return None
        upto, since = self._since.get(flow.queue, (-1, None))
        if upto != flow.upto or since is None:
            since = await waits_since(self._reader, flow)
            self._since[flow.queue] = (flow.upto, since)
        return since
