"""Hearing: what is stored of one tenant's jobs is told as it is stored, and not told again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from actors.contracts.subjects import LIVE, Subject, facts_of
from actors.journal.connection import Link


class Hearing:
    """Calls `take` with the subject and the bytes of every fact. What is stored while it is disconnected is missed."""

    def __init__(self, link: Link, take: Callable[[Subject, bytes], None]) -> None:
        self._link = link
        self._take = take
        self._subscription: Subscription

    @classmethod
    async def open(cls, link: Link, tenant: str, take: Callable[[Subject, bytes], None]) -> Self:
        """Hear a tenant's facts from when this returns. Raises Unanswered."""
        hearing = cls(link, take)
        hearing._subscription = await link.subscribe(LIVE + facts_of(tenant), hearing._on_message)
        return hearing

    async def close(self) -> None:
        await self._link.unsubscribe(self._subscription)

    async def _on_message(self, message: Msg) -> None:
        self._take(Subject.parse(message.subject.removeprefix(LIVE)), message.data)
