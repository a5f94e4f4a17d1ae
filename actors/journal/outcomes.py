"""Outcomes: what happened to jobs and somebody outside may want to be told of, as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections import deque

from nats.aio.msg import Msg

from actors.contracts.events import Record
from actors.journal.connection import Link, Unanswered
from actors.journal.pull import HEARTBEAT_S, STANDING_S, Acks
from actors.journal.topology import AUDIT, HERALD, NS
from actors.journal.trail import SOURCE, record_in

BATCH = 256


class Outcomes:
    """Gives out every outcome and question once it is audited, and again until it is acknowledged; in batches.

    Several may be at it: each is given to one. A pull stands at the server, so what happens is known at once.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._acks = Acks(link)
        self._inbox = link.client.new_inbox()
        self._arrived: deque[tuple[Record | None, str]] = deque()
        self._left = 0
        self._seen = -math.inf
        self._trouble = ""
        self._news = asyncio.Event()

    async def open(self) -> None:
        """Begin to listen, however long the server takes; made once, before the first `next`."""
        self._subscription = await self._link.listen(self._inbox, self._on_message)
        self._link.reconnected.append(self._lose)

    async def close(self) -> None:
        """Take nothing new, and give back at once what has arrived and nobody took."""
        self._link.reconnected.remove(self._lose)
        await self._link.unsubscribe(self._subscription)
        for _, ack in self._arrived:
            await self.again(ack)

    async def next(self) -> list[tuple[Record | None, str]]:
        """Wait for some of them, each with what it is acknowledged by; None for what is no fact of a job.

        Raises Unanswered while the server is away, or has nothing that tells of them.
        """
        while not self._arrived:
            self._news.clear()
            if trouble := self._trouble:
                self._trouble = ""
                raise Unanswered(f"nothing is told of outcomes: {trouble}")
            if self._left <= 0 or asyncio.get_running_loop().time() - self._seen > 2 * HEARTBEAT_S:
                await self._pull()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._news.wait()
        taken = list(self._arrived)
        self._arrived.clear()
        return taken

    async def done(self, ack: str) -> None:
        """It is told, or nobody is to be told. When that is lost, it is given out again."""
        await self._acks.done(ack)

    async def again(self, ack: str, delay: float = 0.0) -> None:
        """Give it out again, to anybody, after `delay` seconds."""
        await self._acks.again(ack, delay)

    async def _pull(self) -> None:
        ask = {"batch": BATCH, "expires": int(STANDING_S * NS), "idle_heartbeat": int(HEARTBEAT_S * NS)}
        await self._link.send(
            f"$JS.API.CONSUMER.MSG.NEXT.{AUDIT}.{HERALD}", json.dumps(ask).encode(), reply=self._inbox
        )
        self._left, self._seen = BATCH, asyncio.get_running_loop().time()

    async def _on_message(self, message: Msg) -> None:
        headers = message.headers or {}
        self._seen = asyncio.get_running_loop().time()
        match headers.get("Status"):
            case None:
                self._left -= 1
                self._arrived.append((record_in(headers.get(SOURCE, ""), message.data), message.reply))
            case "100":
                return
            case status:
                self._left = 0
                self._trouble = "" if status in ("404", "408") else f"{status} {headers.get('Description', '')}"
        self._news.set()

    def _lose(self) -> None:
        self._left = 0
        self._news.set()
