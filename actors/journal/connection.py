"""A connection to the server, in one role."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from actors.contracts.errors import HeadraceError

log = logging.getLogger(__name__)

RECONNECT_S = 0.05
ANSWER_S = 3.0
"""How long a request waits before its answer counts as unknown, in seconds."""

OnMessage = Callable[[Msg], Awaitable[None]]


class Unanswered(HeadraceError):
    """A request had no answer: disconnected, nobody there, or silence. What it asked for may have happened, or not."""


class NobodyThere(Unanswered):
    """Nobody listens on the subject that was asked: known at once, not a matter of waiting."""


class ApiError(HeadraceError):
    """JetStream refused an API call; `code` is its `err_code`."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"JetStream refused ({code}): {description}")
        self.code = code


class Link:
    """One connection, whose requests fail at once when it drops.

    It never buffers: what is sent while it is down fails, instead of being stored later behind the sender's back.
    Connections are kept apart by role (append, pull, replay, live, signals), because the server answers direct gets
    inline on the connection that asked, and a replay would delay the appends beside it.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.reconnected: list[Callable[[], None]] = []
        self._inbox = client.new_inbox()
        self._tokens = itertools.count()
        self._waiting: dict[str, Callable[[Msg | Unanswered], None]] = {}
        self._up = asyncio.Event()
        self._told: set[str] = set()
        self._back_at = -math.inf

    @classmethod
    async def open(cls, urls: list[str], name: str) -> Link:
        """Connect, however long it takes; `name` is what the server's connection list and its events call it."""
        client = Client()
        link = cls(client)
        await client.connect(
            urls,
            name=name,
            pending_size=0,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_S,  # type: ignore[arg-type]  # seconds, and a fraction works
            connect_timeout=2,
            ping_interval=10,
            max_outstanding_pings=2,
            skip_subject_validation=True,
            error_cb=link._on_error,
            disconnected_cb=link._on_drop,
            reconnected_cb=link._on_return,
        )
        await client.subscribe(f"{link._inbox}.*", cb=link._on_reply)
        link._up.set()
        return link

    @property
    def is_up(self) -> bool:
        return self.client.is_connected

    async def wait_until_up(self) -> None:
        await self._up.wait()

    @property
    def back_for(self) -> float:
        """Seconds since it came back after a drop; infinite if it never dropped."""
        return asyncio.get_running_loop().time() - self._back_at

    async def request(
        self, subject: str, data: bytes = b"", *, headers: dict[str, str] | None = None, timeout: float = ANSWER_S
    ) -> Msg:
        """Send and wait for the one answer. Raises Unanswered."""

        async def send(inbox: str) -> None:
            await self._publish(subject, data, reply=inbox, headers=headers)

        message = await self._one_answer(send, subject, timeout)
        if message.headers and message.headers.get("Status") == "503":
            raise NobodyThere(f"nobody answers on {subject}")
        return message

    async def request_many(self, subject: str, data: bytes, *, timeout: float = ANSWER_S) -> tuple[list[Msg], Msg]:
        """Send and collect answers up to the one that carries a `Status` header. Raises Unanswered."""
        answers: list[Msg] = []
        done: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        def take(got: Msg | Unanswered) -> None:
            if done.done():
                return
            if isinstance(got, Unanswered):
                done.set_exception(got)
            elif got.headers and "Status" in got.headers:
                done.set_result(got)
            else:
                answers.append(got)

        token = self._expect(take)
        try:
            await self._publish(subject, data, reply=f"{self._inbox}.{token}")
            async with asyncio.timeout(timeout):
                last = await done
        except TimeoutError:
            raise Unanswered(f"no answer from {subject} within {timeout:g} s") from None
        finally:
            del self._waiting[token]
        if last.headers and last.headers.get("Status") == "503":
            raise NobodyThere(f"nobody answers on {subject}")
        return answers, last

    async def gather(self, subject: str, data: bytes = b"", *, within: float) -> list[Msg]:
        """Ask everybody who listens, and collect what comes within so many seconds. Raises Unanswered."""
        answers: list[Msg] = []

        def take(got: Msg | Unanswered) -> None:
            if isinstance(got, Msg) and not (got.headers and "Status" in got.headers):
                answers.append(got)

        token = self._expect(take)
        try:
            await self._publish(subject, data, reply=f"{self._inbox}.{token}")
            await asyncio.sleep(within)
        finally:
            del self._waiting[token]
        return answers

    async def api(self, call: str, body: dict[str, Any] | None = None, *, timeout: float = ANSWER_S) -> dict[str, Any]:
        """Call `$JS.API.<call>`. Raises ApiError when the server says no, Unanswered when it says nothing."""
        data = b"" if body is None else json.dumps(body).encode()
        answer: dict[str, Any] = json.loads((await self.request(f"$JS.API.{call}", data, timeout=timeout)).data)
        if error := answer.get("error"):
            raise ApiError(error.get("err_code", error.get("code", 0)), error.get("description", "no description"))
        return answer

    async def send(self, subject: str, data: bytes = b"", *, reply: str = "") -> None:
        """Publish without an answer (an ack, a pull, a signal). Raises Unanswered when disconnected."""
        await self._publish(subject, data, reply=reply)

    async def subscribe(self, subject: str, take: OnMessage) -> Subscription:
        """Listen on a subject from when the server has confirmed it; survives reconnects."""
        try:
            subscription = await self.client.subscribe(subject, cb=take)
            try:
                await self._round_trip()
            except BaseException:
                with contextlib.suppress(nats.errors.Error):
                    await subscription.unsubscribe()
                raise
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise Unanswered(f"cannot subscribe to {subject}: {error or type(error).__name__}") from error
        return subscription

    async def listen(self, subject: str, take: OnMessage) -> Subscription:
        """Subscribe, however long it takes the server to confirm it."""
        while True:
            try:
                return await self.subscribe(subject, take)
            except Unanswered as error:
                log.info(
                    "cannot listen yet", extra={"action": "listen_retry", "subject": subject, "reason": str(error)}
                )
            await asyncio.sleep(RECONNECT_S)

    async def answer(self, subject: str, reply: Callable[[bytes], bytes]) -> Subscription:
        """Answer every request on a subject, from when the server has confirmed it, however long that takes.

        `reply` must not wait for anything.
        """

        async def take(message: Msg) -> None:
            with contextlib.suppress(Unanswered):
                await self.send(message.reply, reply(message.data))

        return await self.listen(subject, take)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Stop listening; what the server had sent before it knew of that is still taken."""
        with contextlib.suppress(Unanswered, nats.errors.Error, OSError):
            # What its own `drain` does, which waits with `flush`.
            await self.client._send_unsubscribe(subscription._id)
            await self._round_trip()
            await subscription._pending_queue.join()
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()

    async def close(self) -> None:
        """Let go of the connection; unanswered requests fail."""
        self._drop_all("the connection is closed")
        with contextlib.suppress(OSError):  # it may have dropped already
            await self.client.close()

    async def _round_trip(self) -> None:
        """Until the server has taken what was sent before, which it does in order. Raises Unanswered.

        Not nats-py's `flush`: when nobody waits for it any more, the late pong ends the connection's read loop.
        """

        async def send(inbox: str) -> None:
            await self._publish(inbox, b"", reply="")

        await self._one_answer(send, "our own inbox", ANSWER_S)

    async def _one_answer(self, send: Callable[[str], Awaitable[None]], asked: str, within: float) -> Msg:
        """What comes to a new inbox first, after `send` was called with it."""
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        def take(got: Msg | Unanswered) -> None:
            if answer.done():
                return
            if isinstance(got, Unanswered):
                answer.set_exception(got)
            else:
                answer.set_result(got)

        token = self._expect(take)
        try:
            await send(f"{self._inbox}.{token}")
            async with asyncio.timeout(within):
                return await answer
        except TimeoutError:
            raise Unanswered(f"no answer from {asked} within {within:g} s") from None
        finally:
            del self._waiting[token]

    async def _publish(self, subject: str, data: bytes, *, reply: str, headers: dict[str, str] | None = None) -> None:
        try:
            await self.client.publish(subject, data, reply=reply, headers=headers)
        except nats.errors.MaxPayloadError:
            raise
        except (nats.errors.Error, OSError) as error:
            raise Unanswered(f"not connected to the server: {error or type(error).__name__}") from error

    def _expect(self, take: Callable[[Msg | Unanswered], None]) -> str:
        token = str(next(self._tokens))
        self._waiting[token] = take
        return token

    async def _on_reply(self, message: Msg) -> None:
        if take := self._waiting.get(message.subject.rpartition(".")[2]):
            take(message)

    def _drop_all(self, why: str) -> None:
        for take in list(self._waiting.values()):
            take(Unanswered(why))

    async def _on_drop(self) -> None:
        self._up.clear()
        self._drop_all("the connection dropped before the answer came")

    async def _on_return(self) -> None:
        self._up.set()
        self._back_at = asyncio.get_running_loop().time()
        self._told.clear()
        for call in self.reconnected:
            call()

    async def _on_error(self, error: Exception) -> None:
        said = str(error) or type(error).__name__
        if not self.is_up:
            if said in self._told:
                return  # it says so ten times a second until the server is back
            self._told.add(said)
        log.warning("the connection reports an error", extra={"action": "connection_error", "error": said})
