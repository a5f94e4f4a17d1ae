"""A reader's mailbox: bounded, and merging what is taken late."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from actors.contracts.envelope import Envelope
from actors.contracts.events import Delta
from actors.contracts.view import view

MOST_ITEMS = 256
MOST_HELD = 1 << 20
"""The most characters of text that wait for one reader."""

MOST_TEXT = 64 * 1024
"""The most characters that one merged delta may grow to; the next one begins a new item."""


@dataclass(frozen=True)
class Item:
    """What a reader gets: the events `first_n` to `n` as one, stored up to `seq`. Without an event it is a gap."""

    first_n: int
    n: int
    seq: int
    event: Envelope | None

    @cached_property
    def json(self) -> str:
        """The event as readers see it; made once, however many readers there are."""
        return view(self.event, first_n=self.first_n, n=self.n)

    @property
    def size(self) -> int:
        """Characters of text."""
        return len(self.event.text) if isinstance(self.event, Delta) else 0

    def goes_on_with(self, later: Item) -> bool:
        """Whether both are text of the same generation, and the next item begins where this one ends."""
        match self.event, later.event:
            case Delta() as mine, Delta() as other:
                follows = later.first_n == self.n + 1 and other.from_ == mine.from_ + len(mine.tokens)
                return follows and other.stage == mine.stage
        return False


def merged(items: Sequence[Item]) -> Item:
    """Deltas that go on with each other, as one; a single item as it is."""
    first, last = items[0], items[-1]
    if first is last:
        return first
    said = [item.event for item in items if isinstance(item.event, Delta)]
    text, tokens = "".join(delta.text for delta in said), tuple(token for delta in said for token in delta.tokens)
    event = said[-1].model_copy(update={"text": text, "tokens": tokens, "from_": said[0].from_})
    return Item(first.first_n, last.n, last.seq, event)


class Mailbox:
    """Holds what a reader has not taken yet.

    What waits is shared by all readers of a job, so that one that takes nothing costs the others next to nothing: only
    when they are taken, deltas that have piled up become one. When too much waits, everything is let go and `get`
    answers None once: the reader goes back to the log, at its own pace.
    """

    def __init__(self, most_held: int = MOST_HELD) -> None:
        self._items: deque[Item] = deque()
        self._most_held = most_held
        self._held = 0
        self._lost = False
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def held(self) -> int:
        """Characters of text that wait."""
        return self._held

    def put(self, item: Item) -> None:
        """Never waits."""
        if self._lost:
            return
        if len(self._items) < MOST_ITEMS and self._held + item.size <= self._most_held:
            self._items.append(item)
            self._held += item.size
        else:
            self.lost()
        self._filled.set()

    def lost(self) -> None:
        """Something may be missing from here on."""
        self._items.clear()
        self._held = 0
        self._lost = True
        self._filled.set()

    async def get(self) -> Item | None:
        """The next item; None when the log must be read instead."""
        while True:
            if self._lost:
                self._lost = False
                return None
            if self._items:
                return self._take()
            self._filled.clear()
            await self._filled.wait()

    def _take(self) -> Item:
        taken = [self._items.popleft()]
        size = taken[0].size
        while self._items and taken[-1].goes_on_with(self._items[0]) and size + self._items[0].size <= MOST_TEXT:
            taken.append(self._items.popleft())
            size += taken[-1].size
        self._held -= size
        return merged(taken)
