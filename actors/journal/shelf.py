"""A shelf: what people have set of one kind, by name; the newest of each is kept."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from actors.contracts.errors import HeadraceError
from actors.contracts.subjects import setting_subject
from actors.journal.append import IN_FLIGHT, WRONG_LAST_SEQUENCE
from actors.journal.connection import ApiError, Link, Unanswered
from actors.journal.read import NO_MESSAGE
from actors.journal.topology import SETTINGS

M = TypeVar("M", bound=BaseModel)

KEYS, TENANTS, ENDPOINTS, SIGNING = "key", "tenant", "hook", "signing"
"""The shelves that there are."""

PAGE = 256
TRIES = 12


class Outdated(HeadraceError):
    """Somebody has set it meanwhile: read it again, and decide again."""


@dataclass(frozen=True, slots=True)
class Entry(Generic[M]):
    """What was set under a name, as the `seq`-th of all settings; `value` is None when it was taken away."""

    name: str
    value: M | None
    seq: int


class Shelf(Generic[M]):
    """One kind of setting, each under a name that is one token of a subject, or several.

    Reads show what the leader has, so what was stored before is seen. Everything raises Unanswered.
    """

    def __init__(self, link: Link, name: str, model: type[M], rng: Random | None = None) -> None:
        self._link = link
        self._name = name
        self._model = model
        self._rng = rng or Random()

    async def put(self, name: str, value: M | None, *, expect: int) -> int:
        """Set it, or take it away with None, if `expect` is still its newest sequence (0: never set); the new one.

        Durable when it returns. Raises Outdated.
        """
        data = value.model_dump_json(exclude_none=True).encode() if value else b""
        return await swap(self._link, setting_subject(self._name, name), data, expect=expect, rng=self._rng)

    async def get(self, name: str) -> Entry[M]:
        """What is set under a name; without a value, and perhaps with sequence 0, when nothing is."""
        found = await self._from_leader({"last_by_subj": setting_subject(self._name, name)})
        return found or Entry(name, None, 0)

    async def all(self) -> list[Entry[M]]:
        """Everything that is set."""
        return [entry for entry in await self.since(0) if entry.value is not None]

    async def since(self, seq: int) -> list[Entry[M]]:
        """What was set or taken away after `seq`, the newest of each name, in order."""
        every = setting_subject(self._name, ">")
        found = [] if seq else await self._from_anybody(every)
        seq = found[-1].seq if found else seq
        while entry := await self._from_leader({"seq": seq + 1, "next_by_subj": every}):
            found.append(entry)
            seq = entry.seq
        return found

    async def _from_anybody(self, every: str) -> list[Entry[M]]:
        """All of it, by the page; a replica that lags shows less."""
        found: list[Entry[M]] = []
        while True:
            ask = {"seq": found[-1].seq + 1 if found else 1, "batch": PAGE, "next_by_subj": every}
            page, _ = await self._link.request_many(f"$JS.API.DIRECT.GET.{SETTINGS}", json.dumps(ask).encode())
            for message in page:
                headers = message.headers or {}
                found.append(self._entry(headers["Nats-Subject"], message.data, int(headers["Nats-Sequence"])))
            if len(page) < PAGE:
                return found

    async def _from_leader(self, which: dict[str, object]) -> Entry[M] | None:
        try:
            found = (await self._link.api(f"STREAM.MSG.GET.{SETTINGS}", which))["message"]
        except ApiError as error:
            if error.code == NO_MESSAGE:
                return None
            raise Unanswered(f"settings cannot be read: {error}") from error
        return self._entry(found["subject"], base64.b64decode(found.get("data", "")), int(found["seq"]))

    def _entry(self, subject: str, data: bytes, seq: int) -> Entry[M]:
        name = subject.removeprefix(setting_subject(self._name, ""))
        try:
            return Entry(name, self._model.model_validate_json(data) if data else None, seq)
        except ValidationError as error:
            raise Unanswered(f"{self._name} {name!r} cannot be understood: set by a newer version?") from error


async def swap(link: Link, subject: str, data: bytes, *, expect: int, rng: Random) -> int:
    """Store `data` if `expect` is still the subject's newest sequence (0: nothing was ever there); the new one.

    Durable when it returns. Raises Outdated, and Unanswered when it is not known to be stored.
    """
    headers = {"Nats-Expected-Last-Subject-Sequence": str(expect)}
    for collision in range(TRIES):
        answer = json.loads((await link.request(subject, data, headers=headers)).data)
        if "error" not in answer:
            return int(answer["seq"])
        if (code := answer["error"].get("err_code")) == WRONG_LAST_SEQUENCE:
            raise Outdated(f"{subject} was set by somebody else meanwhile")
        if code != IN_FLIGHT:
            break
        await asyncio.sleep(rng.uniform(0, 0.001 * 2 ** min(collision, 6)))
    raise Unanswered(f"{subject} cannot be set: {answer['error'].get('description', 'no reason')}")
