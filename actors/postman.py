"""The postman: it carries deliveries to their endpoints, again and again until they are taken."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from random import Random
from typing import TypeVar

from actors.contracts.delivery import SCHEDULE, Attempt, Delivery
from actors.contracts.webhook import Endpoint, Secrets
from actors.http.egress import Answer, Egress, EgressError, EgressRefused, checked
from actors.journal.connection import Unanswered
from actors.journal.endpoints import OF_JOBS, Directory, Endpoints
from actors.journal.hooks import Hooks, Kept
from actors.journal.shelf import Outdated
from actors.journal.topology import MOST_DELIVERIES
from actors.runtime.writer import Clock

T = TypeVar("T")

log = logging.getLogger(__name__)

WITHIN_S = 20.0
"""How long an attempt may take, in seconds. Source: Standard Webhooks 1.0.0, 15 to 30 s."""

AT_ONCE = 64
OF_A_TENANT = 16
TO_AN_ENDPOINT = 4
"""How many attempts are under way at most; to an endpoint, or to a host where jobs have named their own."""

MOST_OF_A_TENANT = MOST_DELIVERIES // 4
"""About how many of a tenant's deliveries wait at most. What else is to be told of its jobs waits in the log, so that
receivers which take nothing for days leave room for those of the other tenants."""

LOOK_S = 1.0
"""How often is looked for deliveries that others have made or replayed, and for what became of endpoints."""

PAUSE_S = 0.5
ASIDE_S = 300.0
"""How long a delivery is left that could not even be tried, in seconds."""

MOST_WAIT_S = 86_400.0
"""How long a receiver may ask to be left alone, in seconds."""

GONE = 410
GONE_WHY = "it answered 410 Gone"
NOT_PUBLIC = "it leads to what is not public, and was not asked"
NOT_ALLOWED = f"{NOT_PUBLIC}; whoever runs this may allow the network, with HEADRACE_EGRESS_ALLOW"

Key = tuple[str, str, str]
LaneKey = tuple[str, str]


@dataclass(frozen=True, slots=True, order=True)
class Waiting:
    """A delivery that waits until it is due; its content stays in the log."""

    due: float
    seq: int
    key: Key


@dataclass(slots=True)
class Lane:
    """What waits for one endpoint, the first that is due first; and how many attempts are under way."""

    tenant: str
    endpoint: str
    waiting: list[Waiting] = field(default_factory=list)
    under_way: int = 0


class Postman:
    """Tries every delivery that is pending when it is due, and keeps what came of it.

    All it knows is in the log: after a restart it goes on where that stands. What is slow to be taken keeps nobody else
    waiting. An attempt whose end it could not keep is made again, under the same id.
    """

    def __init__(
        self,
        egress: Egress,
        directory: Directory,
        endpoints: Endpoints,
        hooks: Hooks,
        *,
        now: Clock,
        rng: Random,
        schedule: Sequence[float] = SCHEDULE,
    ) -> None:
        self._egress = egress
        self._directory = directory
        self._endpoints = endpoints
        self._hooks = hooks
        self._now = now
        self._rng = rng
        self._schedule = schedule
        self._lanes: dict[LaneKey, Lane] = {}
        self._newest: defaultdict[str, dict[Key, int]] = defaultdict(dict)
        self._attempts: set[asyncio.Task[None]] = set()
        self._under_way: Counter[str] = Counter()
        self._position = 0
        self._closing = False
        self._news = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many deliveries have not ended."""
        return sum(map(len, self._newest.values()))

    def has_room(self, tenant: str) -> bool:
        """Whether more deliveries of a tenant may be made."""
        return len(self._newest.get(tenant, ())) < MOST_OF_A_TENANT

    def take(self, kept: Kept) -> None:
        """See to a delivery as it is kept now; what was known of it before counts no more."""
        newest = self._newest[kept.tenant]
        if newest.get(kept.key, 0) >= kept.seq:
            return
        if kept.delivery.due is None:
            newest.pop(kept.key, None)
            return
        newest[kept.key] = kept.seq
        lane = self._lane(kept)
        heapq.heappush(lane.waiting, Waiting(kept.delivery.due.timestamp(), kept.seq, kept.key))
        self._news.set()

    async def run(self) -> None:
        """Work until cancelled; what is under way then is tried again by whoever is next."""
        reading = asyncio.create_task(self._keep_reading())
        reading.add_done_callback(lambda _: self._news.set())
        try:
            while not self._closing:
                if reading.done():
                    reading.result()  # what breaks it ends the postman
                self._news.clear()
                soonest = self._start_what_is_due()
                wait = None if soonest is None else max(0.0, soonest - self._now().timestamp())
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._news.wait()
            await asyncio.Event().wait()
        finally:
            for task in (reading, *self._attempts):
                task.cancel()
            await asyncio.wait({reading, *self._attempts})

    async def drain(self, within: float) -> None:
        """Begin nothing more, and let what is under way end in so many seconds."""
        self._closing = True
        self._news.set()
        if self._attempts:
            await asyncio.wait(set(self._attempts), timeout=within)

    async def _keep_reading(self) -> None:
        while True:
            try:
                await self._read_on()
            except Unanswered as error:
                self._position = 0  # a server that comes back from damage may count anew
                log.info("deliveries cannot be read", extra={"action": "deliveries_retry", "reason": str(error)})
            self._news.set()
            await asyncio.sleep(LOOK_S)

    async def _read_on(self) -> None:
        while True:
            page, last = await self._hooks.after(self._position)
            # After the page, so that the endpoint of everything in it is known.
            await self._directory.look(oldest=0.0)
            for kept in page:
                self.take(kept)
            if last is None:
                return
            self._position = last

    def _lane(self, kept: Kept) -> Lane:
        own = kept.delivery.url
        key = kept.tenant, kept.endpoint if own is None else f"{OF_JOBS} {_host(own)}"
        return self._lanes.setdefault(key, Lane(kept.tenant, kept.endpoint))

    def _start_what_is_due(self) -> float | None:
        """Begin as many attempts as there are places for; when the next one is due, None where nobody knows."""
        now = self._now().timestamp()
        while self._start_one_of_each(now):
            pass
        heads = [lane.waiting[0].due for lane in self._lanes.values() if lane.waiting and self._has_place(lane)]
        return min(heads, default=None)

    def _start_one_of_each(self, now: float) -> bool:
        """In turn, so that whoever has much to be told does not keep the others waiting; whether any was begun."""
        begun = False
        for key, lane in list(self._lanes.items()):
            due = self._due(lane, now) if self._has_place(lane) else None
            if due:
                heapq.heappop(lane.waiting)
                self._begin(lane, due)
                begun = True
            if due or not (lane.waiting or lane.under_way):
                del self._lanes[key]
            if due:
                self._lanes[key] = lane  # at the end: the others go first now
        return begun

    def _has_place(self, lane: Lane) -> bool:
        of_tenant = self._under_way[lane.tenant]
        return len(self._attempts) < AT_ONCE and of_tenant < OF_A_TENANT and lane.under_way < TO_AN_ENDPOINT

    def _due(self, lane: Lane, now: float) -> Waiting | None:
        """The first delivery of a lane, if it is due; where nobody is to be told any more, all of them are."""
        newest = self._newest[lane.tenant]
        while lane.waiting and newest.get(lane.waiting[0].key) != lane.waiting[0].seq:
            heapq.heappop(lane.waiting)  # it is another by now, and waits elsewhere
        first = lane.waiting[0] if lane.waiting else None
        return first if first and (first.due <= now or self._is_over(lane)) else None

    def _is_over(self, lane: Lane) -> bool:
        if lane.endpoint == OF_JOBS:
            return False
        endpoint = self._directory.get(lane.tenant, lane.endpoint)
        return endpoint is None or endpoint.disabled is not None

    def _begin(self, lane: Lane, due: Waiting) -> None:
        lane.under_way += 1
        self._under_way[lane.tenant] += 1
        task = asyncio.create_task(self._attempt(due))

        def end(_: asyncio.Task[None]) -> None:
            lane.under_way -= 1
            self._under_way[lane.tenant] -= 1
            self._attempts.discard(task)
            if not task.cancelled() and (error := task.exception()):
                self._put_aside(lane, due, error)
            self._news.set()

        self._attempts.add(task)
        task.add_done_callback(end)

    def _put_aside(self, lane: Lane, due: Waiting, error: BaseException) -> None:
        """A bug of ours that one delivery finds is not to keep the others from being carried."""
        said = {"delivery": due.key[2], "error": f"{type(error).__name__}: {error}"}
        log.error("a delivery cannot be tried", extra={"action": "delivery_broken", **said}, exc_info=error)
        later = self._now().timestamp() + ASIDE_S
        heapq.heappush(lane.waiting, Waiting(later, due.seq, due.key))

    async def _attempt(self, due: Waiting) -> None:
        tenant, endpoint, id = due.key
        if (kept := await _patiently(partial(self._hooks.get, tenant, endpoint, id))) and kept.seq == due.seq:
            tried = await self._tried(kept)
            try:
                self.take(await _patiently(partial(self._hooks.change, kept, tried)))
                if tried.status == "failed":
                    said = {"delivery": id, "endpoint": endpoint, "reason": tried.reason}
                    log.warning("a delivery failed for good", extra={"action": "delivery_failed", **said})
                return
            except Outdated:  # replayed meanwhile, or this very change was stored and its answer lost
                kept = await _patiently(partial(self._hooks.get, tenant, endpoint, id))
        self._newest[tenant].pop(due.key, None)
        if kept:
            self.take(kept)

    async def _tried(self, kept: Kept) -> Delivery:
        """What a delivery is after an attempt, or without one, where there is nobody any more to be told."""
        delivery = kept.delivery
        if delivery.url is None:
            endpoint = self._directory.get(kept.tenant, kept.endpoint)
            if endpoint is None:
                return delivery.ended("the endpoint was deleted")
            if endpoint.disabled:
                return delivery.ended(f"the endpoint is disabled: {endpoint.why}")
            url, secrets = endpoint.url, endpoint.secrets
        else:
            url, secrets = delivery.url, await _patiently(partial(self._endpoints.signing, kept.tenant))
        began, answer, error, refused = self._now(), None, None, False
        try:
            answer = await self._post(url, secrets, delivery, began)
        except EgressRefused as failure:
            # What a name inside leads to is for whoever runs this, and not for whoever made it up.
            log.warning("a delivery may not be sent", extra={"action": "delivery_refused", "reason": str(failure)})
            error, refused = NOT_PUBLIC, True
        except EgressError as failure:
            error = str(failure)
        took = max(0.0, (self._now() - began).total_seconds())
        attempt = Attempt(at=began, took=round(took, 3), status=answer.status if answer else None, error=error)
        said = {"delivery": delivery.id, "endpoint": kept.endpoint, "status": attempt.status, "error": error}
        log.info("a delivery was tried", extra={"action": "delivery_tried", **said})
        if refused:
            return delivery.refused(attempt, NOT_ALLOWED)
        if answer and answer.status == GONE:
            disable = partial(self._disable, kept.tenant, kept.endpoint, url)
            if delivery.url is not None or await _patiently(disable):
                return delivery.refused(attempt, GONE_WHY)
        least = asked_to_wait(answer, self._now())
        return delivery.tried(attempt, self._schedule, luck=self._rng.random(), least=least)

    async def _post(self, url: str, secrets: Secrets, delivery: Delivery, now: datetime) -> Answer:
        headers = {
            "content-type": "application/json",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": secrets.sign(delivery.id, delivery.body, now),
        }
        return await self._egress.request("POST", url, content=delivery.body.encode(), headers=headers)

    async def _disable(self, tenant: str, id: str, url: str) -> bool:
        """Whether nothing more is to be sent to it; one that leads elsewhere since did not say so itself.

        Source: Standard Webhooks 1.0.0, whoever answers 410 wants to hear nothing more.
        """
        now = self._now()

        def disabled(endpoint: Endpoint) -> Endpoint:
            if endpoint.disabled or endpoint.url != url:
                return endpoint
            return endpoint.model_copy(update={"disabled": now, "why": GONE_WHY})

        known = await self._endpoints.change(tenant, id, disabled)
        await self._directory.look(oldest=0.0)
        return known is None or known.disabled is not None


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """What it gives, once the server answers."""
    while True:
        try:
            return await ask()
        except Unanswered as error:
            log.info("a delivery waits for the server", extra={"action": "delivery_waits", "reason": str(error)})
        await asyncio.sleep(PAUSE_S)


def _host(url: str) -> str:
    """Where a job's own webhook leads, however it is spelled; all that is not asked anyway is one place."""
    try:
        return checked(url).netloc.decode()
    except EgressRefused:
        return ""


def asked_to_wait(answer: Answer | None, now: datetime) -> float:
    """The `Retry-After` of an answer in seconds, 0 without one. Source: RFC 9110, 10.2.3."""
    said = answer.headers.get("retry-after", "") if answer else ""
    if said.isascii() and said.isdecimal():
        return min(float(said[:9]), MOST_WAIT_S)
    with suppress(ValueError, OverflowError):
        at = parsedate_to_datetime(said)
        return min(max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()), MOST_WAIT_S)
    return 0.0
