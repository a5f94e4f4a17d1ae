"""The users of a run: they submit, read along, cancel and come back, and write down what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from actors.client import AsyncHeadrace, ClientError, Patience, Refused, Unavailable
from actors.replies import Delta
from tests.chaos.history import Pen
from tests.chaos.receiver import place_of

STUBBORN = Patience(tries=1_000, first=0.05, longest=0.5)
"""A user that waits for every answer, so that nothing is unknown at the end but what its connection hid."""

HASTY = Patience(tries=1)
"""A user that takes the first failure for an answer: what it submitted may be stored or not."""

HURRY_S = 1
TOLD = 0.5
"""Of how many of its jobs a user is told by a webhook."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One job: what is wanted, how it is treated on the way, and where to tell what becomes of it, if anywhere."""

    key: str
    text: str
    kind: str
    webhook: str | None = None

    @property
    def input(self) -> dict[str, object]:
        return {"text": self.text, "stumbles": 1 if self.kind == "stumble" else 0}


KINDS = ("plain",) * 14 + ("stumble", "cancel", "cancel", "hurry", "again", "twisted", "hasty", "two readers")
"""What users do, as often as it stands here: `again` submits twice at once, `twisted` another body with that key."""


class User:
    """Submits one job after the other, and reads each to its end; of some it wants to be told at `told_at`, too."""

    def __init__(self, name: str, urls: Sequence[str], told_at: str, pen: Pen, rng: Random) -> None:
        self._name = name
        self._urls = list(urls)
        self._told_at = told_at
        self._pen = pen
        self._rng = rng

    async def run(self, until: asyncio.Event) -> None:
        """Go on until told to stop; the job under way is read to its end."""
        async with contextlib.AsyncExitStack() as stack:
            stubborn = [await stack.enter_async_context(AsyncHeadrace(u, patience=STUBBORN)) for u in self._urls]
            hasty = [await stack.enter_async_context(AsyncHeadrace(u, patience=HASTY)) for u in self._urls]
            for number in itertools.count():
                if until.is_set():
                    return
                kind = self._rng.choice(KINDS)
                key = f"{self._name}-{number}"
                webhook = self._told_at + place_of(key) if self._rng.random() < TOLD else None
                wish = Wish(key, f"{self._name} {number} {kind}", kind, webhook)
                at = self._rng.randrange(len(self._urls))
                await self._one(wish, hasty[at] if kind == "hasty" else stubborn[at], stubborn[at - 1])
                await asyncio.sleep(self._rng.uniform(0.0, 0.3))

    async def _one(self, wish: Wish, client: AsyncHeadrace, other: AsyncHeadrace) -> None:
        job = await self._submit(wish, client)
        if wish.kind == "again":
            await asyncio.gather(*(self._submit(wish, each) for each in (client, other)))
        if wish.kind == "twisted" and job:
            await self._submit(Wish(wish.key, wish.text + " but otherwise", "twisted body"), other)
        if job is None:
            return
        client = other if wish.kind == "hasty" else client
        readers = [self._read(job, client, "first")]
        if wish.kind == "two readers":
            readers.append(self._read(job, other, "second"))
        if wish.kind == "cancel":
            readers.append(self._cancel(job, other))
        await asyncio.gather(*readers)

    async def _submit(self, wish: Wish, client: AsyncHeadrace) -> str | None:
        self._pen.note("submit", key=wish.key, text=wish.text, kind=wish.kind, told=wish.webhook is not None)
        deadline = HURRY_S if wish.kind == "hurry" else None
        try:
            accepted = await client.submit("errands", wish.input, key=wish.key, deadline=deadline, webhook=wish.webhook)
        except Unavailable as error:
            self._pen.note("submit.unknown", key=wish.key, kind=wish.kind, status=error.problem.status)
        except Refused as error:
            self._pen.note("submit.refused", key=wish.key, kind=wish.kind, status=error.problem.status)
        except ClientError as error:
            self._pen.note("submit.unknown", key=wish.key, kind=wish.kind, why=type(error).__name__)
        else:
            self._pen.note("submit.ok", key=wish.key, kind=wish.kind, job=accepted.id)
            return accepted.id
        return None

    async def _read(self, job: str, client: AsyncHeadrace, reader: str) -> None:
        seen: list[tuple[int, str, str]] = []
        async for event in client.events(job):
            seen.append((event.n, event.kind, event.text if isinstance(event, Delta) else ""))
        self._pen.note("read", job=job, reader=reader, seen=seen)

    async def _cancel(self, job: str, client: AsyncHeadrace) -> None:
        await asyncio.sleep(self._rng.uniform(0.0, 0.5))
        await client.cancel(job, reason="changed my mind")
        self._pen.note("cancelled", job=job)
