"""The deliveries of webhooks: of each the newest is kept, and replaced only by who knows it."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from pydantic import ValidationError

from actors.contracts.delivery import Delivery
from actors.contracts.subjects import HOOKS_PREFIX, hook_subject
from actors.journal.connection import ApiError, Link, Unanswered
from actors.journal.read import NO_MESSAGE
from actors.journal.shelf import Outdated, swap
from actors.journal.topology import AUDIT, HERALD, HOOKS, MOST_DELIVERIES

PAGE = 256
DELETES_AT_ONCE = 4
EVERY = "*"

KEPT = MOST_DELIVERIES // 2
"""Over so many, deliveries that have ended are forgotten, those first that changed longest ago: the rest of what there
may be is for those that have not."""

STATUS = "webhooks"
"""Where whoever carries deliveries says (beside the log) how many wait, and whether a tenant has room for more."""

SAID_S = 0.5

_ID = re.compile(r"msg_[a-z2-7]{26}")


@dataclass(frozen=True, slots=True)
class Kept:
    """A delivery as it is kept: whose it is, to which endpoint, and the sequence under which."""

    tenant: str
    endpoint: str
    seq: int
    delivery: Delivery

    @property
    def key(self) -> tuple[str, str, str]:
        return self.tenant, self.endpoint, self.delivery.id


class Hooks:
    """Keeps deliveries. Everything raises Unanswered."""

    def __init__(self, link: Link, rng: Random | None = None) -> None:
        self._link = link
        self._rng = rng or Random()

    async def make(self, tenant: str, endpoint: str, delivery: Delivery) -> Kept | None:
        """Keep a new delivery; None where there is one with its id, whatever became of it."""
        try:
            return await self._put(Kept(tenant, endpoint, 0, delivery), delivery)
        except Outdated:
            return None

    async def change(self, known: Kept, delivery: Delivery) -> Kept:
        """Put a delivery in the place of the one that is known. Raises Outdated when that is another by now."""
        return await self._put(known, delivery)

    async def get(self, tenant: str, endpoint: str, id: str) -> Kept | None:
        """A delivery as the leader knows it; None where there is none."""
        if not _ID.fullmatch(id):
            return None
        try:
            which = {"last_by_subj": hook_subject(tenant, endpoint, id)}
            found = (await self._link.api(f"STREAM.MSG.GET.{HOOKS}", which))["message"]
        except ApiError as error:
            if error.code == NO_MESSAGE:
                return None
            raise Unanswered(f"deliveries cannot be read: {error}") from error
        return _kept(found["subject"], base64.b64decode(found.get("data", "")), int(found["seq"]))

    async def after(
        self, seq: int, *, tenant: str = EVERY, endpoint: str = EVERY, most: int = PAGE
    ) -> tuple[list[Kept], int | None]:
        """Deliveries that were kept or changed after `seq`, in that order; and where to go on, None at the end.

        A replica that lags shows less.
        """
        subjects = hook_subject(tenant, endpoint, EVERY)
        ask = json.dumps({"seq": seq + 1, "batch": most, "next_by_subj": subjects}).encode()
        messages, end = await self._link.request_many(f"$JS.API.DIRECT.GET.{HOOKS}", ask)
        headers = end.headers or {}
        if headers.get("Status") not in ("204", "404"):
            raise Unanswered(f"deliveries cannot be read: {headers.get('Status')} {headers.get('Description', '')}")
        found = [(m.headers or {}, m.data) for m in messages]
        kept = [_kept(h["Nats-Subject"], data, int(h["Nats-Sequence"])) for h, data in found]
        last = int(found[-1][0]["Nats-Sequence"]) if found else None
        return [one for one in kept if one], last

    async def count(self) -> int:
        """How many there are, of every tenant."""
        try:
            return int((await self._link.api(f"STREAM.INFO.{HOOKS}"))["state"]["messages"])
        except ApiError as error:
            raise Unanswered(f"deliveries cannot be counted: {error}") from error

    async def forget(self, sequences: Sequence[int]) -> None:
        """Take deliveries out for good; what was changed meanwhile stays."""
        turns = asyncio.Semaphore(DELETES_AT_ONCE)

        async def delete(seq: int) -> None:
            async with turns:
                try:
                    await self._link.api(f"STREAM.MSG.DELETE.{HOOKS}", {"seq": seq, "no_erase": True})
                except ApiError:
                    return  # it is gone already

        await asyncio.gather(*map(delete, sequences))

    async def prune(self, kept: int = KEPT) -> int:
        """Forget what has ended, where there is more than `kept`; how many are gone."""
        surplus, position, gone = await self.count() - kept, 0, 0
        while gone < surplus:
            page, last = await self.after(position)
            if last is None:
                break
            ended = [one.seq for one in page if one.delivery.due is None][: surplus - gone]
            await self.forget(ended)
            position, gone = last, gone + len(ended)
        return gone

    async def behind(self) -> int | None:
        """How many outcomes nobody has looked at yet; None where nothing tells of them."""
        try:
            info = await self._link.api(f"CONSUMER.INFO.{AUDIT}.{HERALD}")
        except ApiError:
            return None
        return int(info["num_pending"]) + int(info["num_ack_pending"])

    async def waiting(self) -> int | None:
        """How many deliveries have not ended, by whoever carries them; None where nobody does, or nobody knows."""
        said = await self._said()
        return int(said["waiting"]) if said else None

    async def has_room(self, tenant: str) -> bool:
        """Whether a tenant may have more deliveries, by whoever carries them; where nobody does, it may."""
        said = await self._said(tenant)
        return said is None or bool(said.get("has_room", True))

    async def _said(self, tenant: str = "") -> dict[str, Any] | None:
        try:
            said: dict[str, Any] = json.loads((await self._link.request(STATUS, tenant.encode(), timeout=SAID_S)).data)
        except Unanswered:
            return None
        return said

    async def _put(self, known: Kept, delivery: Delivery) -> Kept:
        subject = hook_subject(known.tenant, known.endpoint, delivery.id)
        data = delivery.model_dump_json(exclude_none=True).encode()
        seq = await swap(self._link, subject, data, expect=known.seq, rng=self._rng)
        return Kept(known.tenant, known.endpoint, seq, delivery)


def _kept(subject: str, data: bytes, seq: int) -> Kept | None:
    """None for what a newer version keeps in another way."""
    tenant, endpoint, _ = subject.removeprefix(HOOKS_PREFIX).split(".")
    try:
        return Kept(tenant, endpoint, seq, Delivery.model_validate_json(data))
    except ValidationError:
        return None
