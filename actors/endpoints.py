"""Endpoints: tenants say over HTTP where webhooks are to go, and see what came of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import get_args

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from actors.contracts.chain import digest
from actors.contracts.delivery import Delivery, Status
from actors.contracts.notice import delivery_id, trial
from actors.contracts.subjects import new_key
from actors.contracts.webhook import Endpoint, Secrets
from actors.http import hook_reports
from actors.http.body import body_of, read_body
from actors.http.caller import caller_of
from actors.http.carrier import Carrier
from actors.http.hook_wishes import EndpointChange, NewEndpoint, expect_https
from actors.http.paging import page_of
from actors.http.problem import (
    BAD_PAGE,
    DISABLED,
    KEY_REUSED,
    QUOTA,
    TOO_MANY_WEBHOOKS,
    UNKNOWN_DELIVERY,
    UNKNOWN_WEBHOOK,
    Refusal,
    unavailable,
)
from actors.http.reports import Report
from actors.http.submission import key_of
from actors.journal import Journal, Unanswered, Undecided
from actors.journal.endpoints import MOST_ENDPOINTS, OF_JOBS, Endpoints, TooManyEndpoints, is_endpoint
from actors.journal.hooks import Hooks, Kept
from actors.journal.journal import PatientJournal
from actors.journal.shelf import Outdated
from actors.runtime.writer import Clock

STATUSES: tuple[str, ...] = get_args(Status)
MOST_LOOKS = 16
"""A page that is not full after so many goes out as it is: a filter may fit nothing."""

BY_HAND = "somebody disabled it"

LEAVE_S = 60
"""When to try an endpoint again where there is no room for it, in seconds."""


class Subscriptions:
    """Takes endpoints, and shows deliveries. It sends nothing itself: what it keeps, `actors/webhooks.py` carries."""

    def __init__(self, log: PatientJournal, carrier: Carrier, *, allow_http: bool, patience: float, now: Clock) -> None:
        self._log = log
        self._carrier = carrier
        self._allow_http = allow_http
        self._patience = patience
        self._now = now

    @property
    def routes(self) -> list[Route]:
        every, one = "/v1/webhooks", "/v1/webhooks/{id}"
        return [
            Route(every, self.page, methods=["GET"]),
            Route(every, self.create, methods=["POST"]),
            Route(f"{every}/secret", self.secret),
            Route(f"{every}/secret/rotate", self.rotate_secret, methods=["POST"]),
            Route(one, self.show, methods=["GET"]),
            Route(one, self.change, methods=["PATCH"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/rotate", self.rotate, methods=["POST"]),
            Route(f"{one}/test", self.test, methods=["POST"]),
            Route(f"{one}/deliveries", self.deliveries),
            Route(f"{one}/deliveries/{{delivery}}/replay", self.replay, methods=["POST"]),
        ]

    async def page(self, request: Request) -> Response:
        """Every endpoint of the tenant, the oldest first."""
        async with self._in_time() as journal:
            found = await Endpoints(journal.signals).all(caller_of(request).tenant)
        return _json({"webhooks": [self._told(id, endpoint) for id, endpoint in found.items()]})

    async def create(self, request: Request) -> Response:
        """Keep an endpoint: 201 with its secret, which is shown now and when it is rotated.

        200, and the same again, for one that was made with the same key.
        """
        key = key_of(request)
        wish = read_body(NewEndpoint, await body_of(request))
        expect_https(wish.url, allow_http=self._allow_http)
        made = Endpoint(
            url=wish.url,
            events=tuple(wish.events),
            description=wish.description,
            secrets=Secrets.new(),
            created=self._now(),
            fingerprint=digest(wish.model_dump_json().encode()),
        )
        return await self._carrier.carry(self._create(caller_of(request).tenant, key, made))

    async def show(self, request: Request) -> Response:
        """One of them."""
        async with self._in_time() as journal:
            endpoint = await _endpoint(journal, request)
        return _json(self._told(request.path_params["id"], endpoint))

    async def change(self, request: Request) -> Response:
        """Change what is named; one that is enabled again is told of what happens from then on."""
        wish = read_body(EndpointChange, await body_of(request))
        expect_https(wish.url, allow_http=self._allow_http)
        named = wish.model_dump(exclude_none=True, exclude={"disabled"})
        now = self._now()

        def changed(endpoint: Endpoint) -> Endpoint:
            state: Report = {}
            if wish.disabled and endpoint.disabled is None:
                state = {"disabled": now, "why": BY_HAND}
            if wish.disabled is False:
                state = {"disabled": None, "why": None}
            return Endpoint.model_validate({**endpoint.model_dump(), **named, **state})

        id, endpoint = await self._changed(request, changed)
        return _json(self._told(id, endpoint))

    async def rotate(self, request: Request) -> Response:
        """Sign with a new secret, and for a day with the old one too."""
        now = self._now()
        _, endpoint = await self._changed(
            request, lambda known: known.model_copy(update={"secrets": known.secrets.rotated(now)})
        )
        return _json(hook_reports.secret(endpoint.secrets, now))

    async def delete(self, request: Request) -> Response:
        """Take it away, and say what it was; what is on its way to it ends."""
        id, tenant = _id(request), caller_of(request).tenant
        async with self._in_time() as journal:
            endpoint = await self._carrier.carry(Endpoints(journal.signals).remove(tenant, id))
        if endpoint is None:
            raise _unknown(id)
        return _json(self._told(id, endpoint))

    async def secret(self, request: Request) -> Response:
        """What webhooks that jobs have named are signed with."""
        async with self._in_time() as journal:
            known = await Endpoints(journal.signals).signing(caller_of(request).tenant)
        return _json(hook_reports.secret(known, self._now()))

    async def rotate_secret(self, request: Request) -> Response:
        """The same, with a new one."""
        now = self._now()
        async with self._in_time() as journal:
            rotating = Endpoints(journal.signals).rotate_signing(caller_of(request).tenant, now)
            return _json(hook_reports.secret(await self._carrier.carry(rotating), now))

    async def test(self, request: Request) -> Response:
        """Send it a `webhook.test`: 202 with the delivery, in whose log it stands what came of it."""
        id, tenant = request.path_params["id"], caller_of(request).tenant
        async with self._in_time() as journal:
            _expect_enabled(await _endpoint(journal, request))
            await _expect_room(Hooks(journal.signals), tenant)
            said = trial(id, now := self._now())
            name = delivery_id(digest(new_key().encode()), id)
            delivery = Delivery(id=name, event=said.event, body=said.body, created=now, due=now)
            await self._carrier.carry(Hooks(journal.appends).make(tenant, id, delivery))
        return _json(hook_reports.delivery(delivery), 202)

    async def deliveries(self, request: Request) -> Response:
        """A page of its deliveries, those first that changed longest ago; `jobs` stands for those that jobs named."""
        id: str = request.path_params["id"]
        status = request.query_params.get("status")
        if status is not None and status not in STATUSES:
            raise Refusal(BAD_PAGE, f"There is no status {status[:32]!r}; take one of: {', '.join(STATUSES)}.")
        limit, position = page_of(request)
        async with self._in_time() as journal:
            if id != OF_JOBS:
                await _endpoint(journal, request)
            found, more = await _page(Hooks(journal.replays), caller_of(request).tenant, id, position, limit, status)
        told = [hook_reports.delivery(kept.delivery) for kept in found]
        return _json({"deliveries": told, "next": str(more) if more is not None else None})

    async def replay(self, request: Request) -> Response:
        """Send a delivery again, from the first attempt on, under the same id: 202 with the delivery."""
        id, tenant = request.path_params["id"], caller_of(request).tenant
        async with self._in_time() as journal:
            if id != OF_JOBS:
                _expect_enabled(await _endpoint(journal, request))
            hooks = Hooks(journal.appends)
            while known := await hooks.get(tenant, id, request.path_params["delivery"]):
                again = known.delivery.replayed(self._now())
                try:
                    await self._carrier.carry(hooks.change(known, again))
                except Outdated:
                    continue
                return _json(hook_reports.delivery(again), 202)
        raise Refusal(UNKNOWN_DELIVERY, "There is no such delivery, or it is not kept any more; look at the list.")

    async def _create(self, tenant: str, key: str, asked: Endpoint) -> Response:
        try:
            async with self._in_time() as journal:
                id, kept = await Endpoints(journal.signals).make(tenant, key, asked)
        except TooManyEndpoints:
            detail = f"A tenant has {MOST_ENDPOINTS} endpoints at most. Delete one, or change it."
            raise Refusal(TOO_MANY_WEBHOOKS, detail, limit=MOST_ENDPOINTS) from None
        except (Undecided, Unanswered) as error:
            detail = "It is not known to be kept: send it again with this Idempotency-Key, which makes no second one."
            raise unavailable(error, detail, key=key) from error
        if kept.fingerprint != asked.fingerprint:
            detail = "A webhook was made with this key and another body. Send that body, or take a new Idempotency-Key."
            raise Refusal(KEY_REUSED, detail, id=id)
        headers = {"Location": f"/v1/webhooks/{id}", "Idempotency-Key": key}
        told = self._told(id, kept) | {"secret": kept.secrets.newest}
        if kept is asked:
            return _json(told, 201, headers)
        return _json(told, 200, headers | {"Idempotent-Replay": "true"})

    async def _changed(self, request: Request, change: Callable[[Endpoint], Endpoint]) -> tuple[str, Endpoint]:
        id, tenant = _id(request), caller_of(request).tenant
        async with self._in_time() as journal:
            changed = await self._carrier.carry(Endpoints(journal.signals).change(tenant, id, change))
        if changed is None:
            raise _unknown(id)
        return id, changed

    def _told(self, id: str, endpoint: Endpoint) -> Report:
        return hook_reports.endpoint(id, endpoint, self._now())

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[Journal]:
        """The log, for as long as a client is kept waiting. Raises Unanswered and Undecided."""
        try:
            async with asyncio.timeout(self._patience):
                yield await self._log.opened(self._patience)
        except TimeoutError:
            raise Undecided("the log did not answer in time") from None


async def _page(
    hooks: Hooks, tenant: str, endpoint: str, position: int, limit: int, status: str | None
) -> tuple[list[Kept], int | None]:
    """The next deliveries after a position that fit, and where to go on; None when there are no more."""
    found: list[Kept] = []
    for _ in range(MOST_LOOKS):
        page, last = await hooks.after(position, tenant=tenant, endpoint=endpoint)
        if last is None:
            return found, None
        for kept in page:
            if status in (None, kept.delivery.status):
                found.append(kept)
            if len(found) == limit:
                return found, kept.seq
        position = last
    return found, position


async def _endpoint(journal: Journal, request: Request) -> Endpoint:
    """Raises Refusal, also for another tenant's."""
    id = _id(request)
    if found := await Endpoints(journal.signals).get(caller_of(request).tenant, id):
        return found
    raise _unknown(id)


def _id(request: Request) -> str:
    """Raises Refusal for what can be the id of none."""
    id: str = request.path_params["id"]
    if not is_endpoint(id):
        raise _unknown(id)
    return id


def _unknown(id: str) -> Refusal:
    return Refusal(UNKNOWN_WEBHOOK, f"There is no webhook {id[:64]!r}; GET /v1/webhooks has those that there are.")


def _expect_enabled(endpoint: Endpoint) -> None:
    if endpoint.disabled:
        detail = f'It is disabled ({endpoint.why}). Enable it first: PATCH it with {{"disabled": false}}.'
        raise Refusal(DISABLED, detail)


async def _expect_room(hooks: Hooks, tenant: str) -> None:
    if not await hooks.has_room(tenant):
        detail = "Too many of this tenant's deliveries wait. Delete or disable the webhooks that take none, or wait."
        raise Refusal(QUOTA, detail, headers={"Retry-After": str(LEAVE_S)})


def _json(report: Report, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(report), status, headers, "application/json")
