"""Bad luck on cue: answers, acks and reads that get lost or come late."""

from __future__ import annotations

import asyncio
from typing import Any

from actors.contracts.events import Record, parse
from actors.contracts.subjects import Address, Kind
from actors.journal import Appender, Reader, Unanswered
from actors.journal.pull import Acks


class Turnstile(Appender):
    """Holds back the first append of some kind until it is let through."""

    def __init__(self, real: Appender, kind: str) -> None:
        self._real = real
        self._kind = kind
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def append(self, address: Address, kind: Kind, topic: str, data: bytes, **options: Any) -> int:
        if parse(data).kind == self._kind:
            self.reached.set()
            await self.open.wait()
        return await self._real.append(address, kind, topic, data, **options)


class StoresAndHolds(Appender):
    """Stores, and holds back the answer to the first append of a kind."""

    def __init__(self, real: Appender, kind: str) -> None:
        self._real = real
        self._kind = kind
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def append(self, address: Address, kind: Kind, topic: str, data: bytes, **options: Any) -> int:
        seq = await self._real.append(address, kind, topic, data, **options)
        if parse(data).kind == self._kind and not self.reached.is_set():
            self.reached.set()
            await self.open.wait()
        return seq


class LosesAnswers(Appender):
    """Everything is stored, and then appended again as if no answer had come."""

    def __init__(self, real: Appender) -> None:
        self._real = real

    async def append(self, address: Address, kind: Kind, topic: str, data: bytes, **options: Any) -> int:
        await self._real.append(address, kind, topic, data, **options)
        return await self._real.append(address, kind, topic, data, **options)


class Blinking(Reader):
    """Has no answer every other time."""

    def __init__(self, real: Reader) -> None:
        self._real = real
        self.asked = 0

    async def job(self, tenant: str, job: str, *, after: int = 0, at_least: int = 0) -> list[Record]:
        self.asked += 1
        if self.asked % 2:
            raise Unanswered("nobody leads")
        return await self._real.job(tenant, job, after=after, at_least=at_least)


class Lagging(Reader):
    """A replica that never has the newest message; the leader has it."""

    def __init__(self, real: Reader) -> None:
        self._real = real

    async def job(self, tenant: str, job: str, *, after: int = 0, at_least: int = 0) -> list[Record]:
        found = await self._real.job(tenant, job, after=after, at_least=at_least)
        return [record for record in found if record.seq <= max(at_least, found[-2].seq if len(found) > 1 else 0)]


class NoAcks(Acks):
    """Its acks are lost on the way."""

    async def done(self, ack: str) -> None:
        return


class NoLease(Acks):
    """Its signs of work are lost on the way."""

    async def working(self, ack: str) -> None:
        return
