"""A job's messages written by hand, as an ingress, a worker or a person would write them."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from actors.contracts.chain import Chain
from actors.contracts.envelope import Envelope, Fact
from actors.contracts.events import HandOff, Origin, Text, place
from actors.contracts.fold import chain_of
from actors.contracts.messages import Message, Packed
from actors.contracts.subjects import LOCAL, Address, Lane, job_id
from actors.journal import Appender, Reader

E = TypeVar("E", bound=Envelope)


class Note(Message):
    """A message for jobs that no stage is meant to take."""

    text: str = ""


def new_address(lane: Lane = "standard", tenant: str = LOCAL, share: int = 0) -> Address:
    """Where a job lives that nobody else writes to."""
    return Address(lane, tenant, job_id(tenant, secrets.token_hex(8)), share)


def an_origin(*, pipeline: str = "analysis", version: str = "0" * 12, seconds: float = 3_600.0) -> Origin:
    """An origin whose deadline is so many seconds away; it may lie in the past."""
    now = datetime.now(UTC)
    return Origin(
        pipeline=pipeline, version=version, fingerprint="f" * 64, created=now, deadline=now + timedelta(seconds=seconds)
    )


class Scribe:
    """Appends to one job, each message compared with the last that it knows of."""

    def __init__(self, appender: Appender, address: Address | None = None, *, origin: Origin | None = None) -> None:
        self.address = address or new_address()
        self.origin = origin or an_origin()
        self.chain = Chain()
        self._appender = appender

    def event(self, kind: type[E], **fields: Any) -> E:
        """An event that would come next."""
        stamp: dict[str, Any] = {"n": self.chain.n + 1, "by": "test/scribe", "at": datetime.now(UTC)}
        if issubclass(kind, Fact):
            stamp["prev"] = self.chain.prev
        return kind(**{**stamp, **fields})

    async def write(self, kind: type[E], **fields: Any) -> E:
        """Store an event."""
        event, ttl = self.event(kind, **fields), 3_600 if issubclass(kind, Text) else None
        data, (first, topic) = event.encode(), place(event)
        seq = await self._appender.append(self.address, first, topic, data, expect=self.chain.seq, ttl=ttl)
        grown = self.chain.with_text if issubclass(kind, Text) else self.chain.with_fact
        self.chain = grown(seq, data)
        return event

    async def hand_off(self, stage: str, message: Message | None = None, **fields: Any) -> HandOff:
        """Store a hand-off to a stage; the first one is the POST."""
        packed = Packed.of(message or Note())
        return await self.write(HandOff, **{"stage": stage, "origin": self.origin, "message": packed, **fields})

    async def catch_up(self, reader: Reader) -> None:
        """Go on after what others have written meanwhile."""
        self.chain = chain_of(await reader.job(self.address.tenant, self.address.job))
