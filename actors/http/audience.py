"""The audience: how many streams are open for each tenant in this process, and no more than the tenant may have."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TypeVar

from actors.contracts.limits import Limits
from actors.http.caller import Caller
from actors.http.problem import QUOTA, Refusal
from actors.journal.mirror import Mirror

T = TypeVar("T")

AGAIN_S = 5
"""How soon a reader that found no place is to ask again, in seconds: nobody knows when another one leaves."""

RETURNING = 2
"""Who comes back is let in up to so many times the limit: the connection it has lost may not be missed here yet, and a
browser takes a refusal for the end."""


class Audience:
    """Counts streams of events, WebSockets and OpenAI's streams, on behalf of whoever reads.

    A tenant has its limit in each process, so that each can keep to it by itself. Nobody has to be given one.
    """

    def __init__(self, limits: Mirror[Limits]) -> None:
        self._limits = limits
        self._present: Counter[str] = Counter()

    def must_have_room(self, caller: Caller, *, returning: bool = False) -> None:
        """Raises Refusal, 429, when the caller's tenant has all the streams that it may have."""
        limits = self._limits.values.get(caller.tenant)
        most = limits.readers if limits else None
        if most is None or self._present[caller.tenant] < most * (RETURNING if returning else 1):
            return
        raise Refusal(
            QUOTA,
            f"This tenant may have {most:,} streams open here, and has. Ask again in {AGAIN_S} s, close one, or read "
            "several jobs on one stream: /v1/events?jobs=<id>,<id>.",
            headers={"Retry-After": str(AGAIN_S)},
            limit="readers",
            most=most,
        )

    @contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """While this is entered, the caller has one stream more."""
        self._present[caller.tenant] += 1
        try:
            yield
        finally:
            self._present[caller.tenant] -= 1
            if not self._present[caller.tenant]:
                del self._present[caller.tenant]

    @asynccontextmanager
    async def placed(self, caller: Caller, stream: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
        """The same, while a stream is open."""
        with self.place(caller):
            async with stream as opened:
                yield opened
