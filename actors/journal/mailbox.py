"""A reader's mailbox: bounded, and merging what waits in it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import cached_property

from actors.contracts.envelope import Envelope
from actors.contracts.events import Delta
from actors.contracts.view import view

MOST_ITEMS = 64
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

    def merged_with(self, later: Item) -> Item | None:
        """This and the next item as one, if both are text of the same generation and fit."""
        match self.event, later.event:
            case Delta() as mine, Delta() as other if (
                later.first_n == self.n + 1
                and other.stage == mine.stage
                and other.from_ == mine.from_ + len(mine.tokens)
                and len(mine.text) + len(other.text) <= MOST_TEXT
            ):
                update = {"text": mine.text + other.text, "tokens": mine.tokens + other.tokens}
                return Item(self.first_n, later.n, later.seq, other.model_copy(update={**update, "from_": mine.from_}))
        return None


class Mailbox:
    """Holds what a reader has not taken yet.

    Deltas that wait merge into one. When even that is too much, everything is let go and `get` answers None once: the
    reader goes back to the log, at its own pace.
    """

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._lost = False
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Never waits."""
        if self._lost:
            return
        if self._items and (merged := self._items[-1].merged_with(item)):
            self._items[-1] = merged
        elif len(self._items) < MOST_ITEMS:
            self._items.append(item)
        else:
            self.lost()
        self._filled.set()

    def lost(self) -> None:
        """Something may be missing from here on."""
        self._items.clear()
        self._lost = True
        self._filled.set()

    async def get(self) -> Item | None:
        """The next item; None when the log must be read instead."""
        while True:
            if self._lost:
                self._lost = False
                return None
            if self._items:
                return self._items.popleft()
            self._filled.clear()
            await self._filled.wait()
