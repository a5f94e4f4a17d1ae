"""Pulling hand-offs: no more than fit, the urgent lanes first, and in each of them its tenants by weight."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from actors.contracts.events import Record
from actors.contracts.subjects import LANES, Lane, Queue, arrivals_subject
from actors.journal.connection import ANSWER_S, Link, Unanswered
from actors.journal.lag import queues_of
from actors.journal.topology import JOBS, NS
from actors.journal.turns import Turns

log = logging.getLogger(__name__)

STANDING_S = 30.0
"""How long a standing pull waits at the server, in seconds; then it is made again."""

HEARTBEAT_S = 5.0
"""How often the server says that a standing pull still stands; two missed, and it is made again."""

FIRST_PAUSE_S = 0.025
LONGEST_PAUSE_S = 1.0
"""How long a puller waits before it asks again where nobody can give it anything, in seconds: at first, at most."""

GIVE_BACK_S = 0.1
"""After how many seconds a hand-off that nobody takes any more is given out again. At once, the server would give it to
the pull that it came by, over and over, until its deliveries are used up."""

SETTLED_S = 0.1
"""What is stored may be told of a moment before a pull that does not wait is given it, in seconds: so long a queue that
was told of is asked again, though it seemed empty."""

LANE_TURN = 20
"""Where more urgent lanes take every slot, each so many-th goes to a lane that would not have been asked: none is ever
starved. A lane that is asked anyway needs no such turn, so it costs the urgent ones nothing while there are slots."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A hand-off as it was delivered: `count` is how often, as far as the server remembers. A hint, never a proof.

    `ack` is the subject that its lease hangs on; anybody who knows it can extend or end that lease. `behind` is how
    many more waited in its queue just then.
    """

    record: Record
    count: int
    ack: str
    behind: int = 0

    @classmethod
    def of(cls, message: Msg) -> Delivery:
        """Take apart `$JS.ACK[.<domain>.<account>].<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<time>.<pending>`."""
        tokens = message.reply.split(".")
        at = 2 if len(tokens) == 9 else 4
        record = Record(int(tokens[at + 3]), message.subject, message.data)
        return cls(record, int(tokens[at + 2]), message.reply, int(tokens[at + 6]))


class Acks:
    """What is said about a delivery. Each of these may be lost; then it is delivered again, and the log answers."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def done(self, ack: str) -> None:
        """The log proves that this hand-off is closed."""
        await self._say(ack, b"+ACK")

    async def again(self, ack: str, delay: float = 0.0) -> None:
        """Deliver it again, to anybody, after `delay` seconds."""
        await self._say(ack, b'-NAK {"delay": %d}' % int(delay * NS) if delay > 0 else b"-NAK")

    async def working(self, ack: str) -> None:
        """Extend the lease."""
        await self._say(ack, b"+WPI")

    async def _say(self, ack: str, what: bytes) -> None:
        with contextlib.suppress(Unanswered):
            await self._link.send(ack, what)


def equal(share: int) -> float:
    """Every share weighs the same."""
    return 1.0


class Puller:
    """Gives one stage's hand-offs to a worker, never more than `room()` said would fit when they were asked for.

    A sweep asks the lanes in order without waiting; what it asked for is taken. Only when all are empty does a standing
    pull per queue wait, for one hand-off each; a surplus arrival (two queues at once, one slot) goes straight back.

    In a lane, shares have their turns by `weight`. A sweep asks only those in which something is known to wait: the
    last delivery told how much was behind it, and whoever hands off to a share says so beside the log. One more is
    asked blindly, for what came back to a queue and was not told. The first share is always asked, and never told of.
    """

    def __init__(
        self,
        link: Link,
        stage: str,
        room: Callable[[], int],
        lanes: Sequence[Lane] = LANES,
        weight: Callable[[int], float] = equal,
    ) -> None:
        self._link = link
        self._stage = stage
        self._room = room
        self._lanes = tuple(lanes)
        self._turns = {lane: Turns(weight) for lane in self._lanes}
        self._queues = {queue.token: queue for queue in (Queue(stage, lane) for lane in self._lanes)}
        self._passed = dict.fromkeys(self._lanes, 0)
        self._waits: dict[str, float] = {}
        self._blind: deque[str] = deque()
        self._acks = Acks(link)
        self._arrived: deque[Delivery] = deque()
        self._standing: dict[str, _Standing] = {}
        self._resting: set[str] = set()
        self._inbox = link.client.new_inbox()
        self._pulls = 0
        self._asking: _Sweep | None = None
        self._woken = asyncio.Event()
        self._subscriptions: list[Subscription] = []
        self._ended_oddly = 0
        self._unlisted = True
        self._closing = False

    async def open(self) -> None:
        """Begin to listen for arrivals, however long the server takes; made once, before the first `next`."""
        # A delivery keeps its own subject, so what it answers shows only in the subscription that it came by.
        for subject, take in (
            (f"{self._inbox}.sweep.*", self._on_swept),
            (f"{self._inbox}.standing.*", self._on_standing),
            (arrivals_subject(self._stage), self._on_word),
        ):
            self._subscriptions.append(await self._link.listen(subject, take))
        self._link.reconnected.append(self._on_reconnect)

    async def next(self) -> list[Delivery]:
        """Wait for deliveries; at least one, and no more than there was room for.

        None once there is no room any more, or `close` was called. Survives restarts of the server.
        """
        while not self._closing:
            try:
                if self._unlisted:
                    await self._list()
                if not self._arrived:
                    await self._sweep()
                if not self._arrived and self._room() > 0:
                    await self._stand()
                    await self._wait()
                if self._arrived:
                    return self._take()
                if self._room() <= 0:  # who pulls on would give back the same hand-off as often as it can be sent
                    return []
            except Unanswered as error:
                log.info("cannot pull", extra={"action": "pull_retry", "stage": self._stage, "reason": str(error)})
                self._standing.clear()
                await self._link.wait_until_up()
                await asyncio.sleep(FIRST_PAUSE_S)
        return []

    async def close(self) -> None:
        """Take nothing new, and give back what has arrived and nobody took, or is arriving right now."""
        self._closing = True
        self._woken.set()
        if self._on_reconnect in self._link.reconnected:
            self._link.reconnected.remove(self._on_reconnect)
        await asyncio.gather(*(self._link.unsubscribe(subscription) for subscription in self._subscriptions))
        if self._asking:
            self._asking.over.set()
        while self._arrived:
            await self._acks.again(self._arrived.popleft().ack)

    def _take(self) -> list[Delivery]:
        taken = list(self._arrived)
        self._arrived.clear()
        return taken

    async def _list(self) -> None:
        """Find the queues that there are. What comes to a new one later is told."""
        for queue in await queues_of(self._link, [self._stage]):
            self._know(queue)
        self._unlisted = False

    def _know(self, queue: Queue, told_at: float = -math.inf) -> None:
        if queue.lane in self._lanes and queue.token not in self._queues:
            self._queues[queue.token] = queue
            self._blind.append(queue.token)
        if queue.share and queue.token in self._queues:
            self._waits[queue.token] = told_at

    async def _sweep(self) -> None:
        self._forget_lost()  # a queue in which a pull seems to stand is not asked
        if self._blind:
            self._blind.rotate(-1)
            if self._blind[0] not in self._standing:
                self._waits.setdefault(self._blind[0], -math.inf)
        due = [lane for lane in self._lanes if self._passed[lane] >= LANE_TURN - 1]
        asked = set[Lane]()
        for lane in (*due, *self._lanes):
            if (places := self._places) > 0:
                await self._sweep_lane(lane, 1 if lane in due and lane not in asked else places)
                asked.add(lane)
        for lane in self._lanes:
            self._passed[lane] = 0 if lane in asked else self._passed[lane] + len(self._arrived)

    @property
    def _places(self) -> int:
        """How many more hand-offs fit."""
        return 0 if self._closing else self._room() - len(self._arrived)

    async def _sweep_lane(self, lane: Lane, room: int) -> None:
        """Take what waits in a lane, as far as there is room: from each share in turn until it has no more."""
        turns = self._turns[lane]
        asked = {
            q.share: q for q in self._queues.values() if q.lane == lane and (not q.share or q.token in self._waits)
        }
        while asked and room > 0 and not self._closing:
            share, places = turns.next(asked, room)
            asked_at = asyncio.get_running_loop().time()
            swept = await self._pull_now(asked[share], places)
            turns.took(share, took := places - swept.left)
            room -= took
            if swept.left or not swept.behind:
                token = asked.pop(share).token
                if self._waits.get(token, 0.0) < asked_at - SETTLED_S:
                    self._waits.pop(token, None)

    async def _pull_now(self, queue: Queue, room: int) -> _Sweep:
        """Whatever waits in a queue, as far as there is room."""
        self._pulls += 1
        self._asking = asked = _Sweep(str(self._pulls), room)
        ask = json.dumps({"batch": room, "no_wait": True}).encode()
        try:
            await self._link.send(_next_subject(queue), ask, reply=f"{self._inbox}.sweep.{asked.token}")
            async with asyncio.timeout(ANSWER_S):
                await asked.over.wait()
        except TimeoutError:
            raise Unanswered(f"no answer to a pull on {queue.token}") from None
        finally:
            self._asking = None
        return asked

    async def _stand(self) -> None:
        self._forget_lost()
        now = asyncio.get_running_loop().time()
        ask = {"batch": 1, "expires": int(STANDING_S * NS), "idle_heartbeat": int(HEARTBEAT_S * NS)}
        data = json.dumps(ask).encode()
        for token, queue in list(self._queues.items()):
            if not self._closing and token not in self._standing and token not in self._resting:
                self._standing[token] = _Standing(now)
                await self._link.send(_next_subject(queue), data, reply=f"{self._inbox}.standing.{token}")

    async def _wait(self) -> None:
        """Until something has arrived, or a standing pull has ended, was lost, or is missing."""
        self._woken.clear()
        while not (self._arrived or self._woken.is_set()) and self._stands:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._woken.wait()
            self._forget_lost()

    @property
    def _stands(self) -> bool:
        """Whether a pull stands at every queue, but where it is of no use just now."""
        return len(self._standing) + len(self._resting) == len(self._queues)

    def _forget_lost(self) -> None:
        # A broker that was killed loses standing pulls, and says nothing about it.
        now = asyncio.get_running_loop().time()
        for token in [token for token, pull in self._standing.items() if now - pull.seen > 2 * HEARTBEAT_S]:
            log.warning("a standing pull was lost", extra={"action": "pull_lost", "stage": self._stage, "lane": token})
            del self._standing[token]

    async def _on_swept(self, message: Msg) -> None:
        sweep, headers = self._asking, message.headers or {}
        if "Status" not in headers:
            delivery = Delivery.of(message)
            if self._closing:
                await self._acks.again(delivery.ack, GIVE_BACK_S)
            else:
                self._arrived.append(delivery)
            if sweep:
                sweep.left -= 1
                sweep.behind = delivery.behind
        if sweep and (sweep.left <= 0 or ("Status" in headers and message.subject.endswith(f".{sweep.token}"))):
            sweep.over.set()

    async def _on_standing(self, message: Msg) -> None:
        status = (message.headers or {}).get("Status")
        if status in (None, "100", "404", "408"):
            self._ended_oddly = 0
        token = message.subject.split(".")[2 if status is None else -1]
        if status == "100":
            if token in self._standing:
                self._standing[token].seen = asyncio.get_running_loop().time()
            return
        self._standing.pop(token, None)
        if status is None:
            await self._arrive_unasked(Delivery.of(message), self._queues[token])
        elif status not in ("404", "408"):
            log.info("a standing pull ended", extra={"action": "pull_ended", "stage": self._stage, "reason": status})
            self._ended_oddly += 1
            self._resting.add(token)
            pause = min(FIRST_PAUSE_S * 2**self._ended_oddly, LONGEST_PAUSE_S)
            asyncio.get_running_loop().call_later(pause, self._rested, token)
            return
        self._woken.set()

    def _rested(self, token: str) -> None:
        self._resting.discard(token)
        self._woken.set()

    async def _arrive_unasked(self, delivery: Delivery, queue: Queue) -> None:
        expected = len(self._arrived) + (self._asking.left if self._asking else 0)
        if fits := not self._closing and self._room() > expected:
            self._arrived.append(delivery)
            self._turns[queue.lane].took(queue.share, 1)
        else:
            await self._acks.again(delivery.ack)
        if queue.share and (delivery.behind or not fits):
            self._waits.setdefault(queue.token, -math.inf)

    async def _on_word(self, message: Msg) -> None:
        """Something has come to a queue; where a pull stands, that brings it."""
        queue = Queue.parse(f"{self._stage}-{message.subject.rpartition('.')[2]}")
        if queue and queue.token not in self._standing:
            known = queue.token in self._queues
            self._know(queue, asyncio.get_running_loop().time())
            if not known:
                self._woken.set()

    def _on_reconnect(self) -> None:
        self._standing.clear()  # the server forgot them
        self._unlisted = True
        if self._asking:
            self._asking.over.set()
        self._woken.set()


def _next_subject(queue: Queue) -> str:
    return f"$JS.API.CONSUMER.MSG.NEXT.{JOBS}.{queue.consumer}"


@dataclass(slots=True)
class _Sweep:
    """A pull that does not wait, until all it asked for has come or the server says that there is no more.

    `left` is what has not come of it, and `behind` how much was left behind what came last.
    """

    token: str
    left: int
    behind: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Standing:
    """A pull that waits at the server, and when the server last said so."""

    seen: float
