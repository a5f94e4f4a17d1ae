"""The endpoints of webhooks: they are made, changed and taken away here, and so is what signs for them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime

from actors.contracts.errors import HeadraceError
from actors.contracts.webhook import Endpoint, Secrets
from actors.journal.connection import Link
from actors.journal.mirror import Mirror
from actors.journal.shelf import ENDPOINTS, SIGNING, Outdated, Shelf

MOST_ENDPOINTS = 16
"""How many endpoints a tenant may have: each is a delivery more for every outcome."""

OF_JOBS = "jobs"
"""Stands for an endpoint where jobs have named their own."""

_ID = re.compile(r"[a-z2-7]{16}")


class TooManyEndpoints(HeadraceError):
    """The tenant has as many as it may have."""


class Endpoints:
    """Sets endpoints; who delivers sees it at once. Everything raises Unanswered.

    The settings of two who change one at once are both kept: the second is made on top of the first.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._shelf = Shelf(link, ENDPOINTS, Endpoint)
        self._signing = Shelf(link, SIGNING, Secrets)

    async def make(self, tenant: str, key: str, endpoint: Endpoint) -> tuple[str, Endpoint]:
        """The id of the endpoint that is made with this key, and how it is kept: there may be one from before.

        Raises TooManyEndpoints.
        """
        id = _id_of(tenant, key)
        while (known := await self._shelf.get(name_of(tenant, id))).value is None:
            if len(await self.all(tenant)) >= MOST_ENDPOINTS:
                raise TooManyEndpoints(f"a tenant has {MOST_ENDPOINTS} endpoints at most")
            with suppress(Outdated):
                await self._shelf.put(known.name, endpoint, expect=known.seq)
                return id, endpoint
        return id, known.value

    async def all(self, tenant: str) -> dict[str, Endpoint]:
        """A tenant's, by their ids, the oldest first."""
        mine = await Shelf(self._link, f"{ENDPOINTS}.{tenant}", Endpoint).all()
        found = [(entry.name, entry.value) for entry in mine if entry.value]
        return dict(sorted(found, key=lambda one: one[1].created))

    async def get(self, tenant: str, id: str) -> Endpoint | None:
        return (await self._shelf.get(name_of(tenant, id))).value

    async def change(self, tenant: str, id: str, change: Callable[[Endpoint], Endpoint]) -> Endpoint | None:
        """The endpoint as it is then; None where there is none."""
        while (known := await self._shelf.get(name_of(tenant, id))).value:
            changed = change(known.value)
            with suppress(Outdated):
                await self._shelf.put(known.name, changed, expect=known.seq)
                return changed
        return None

    async def remove(self, tenant: str, id: str) -> Endpoint | None:
        """Take one away; what it was, None where there was none."""
        while (known := await self._shelf.get(name_of(tenant, id))).value:
            with suppress(Outdated):
                await self._shelf.put(known.name, None, expect=known.seq)
                return known.value
        return None

    async def signing(self, tenant: str) -> Secrets:
        """What signs for webhooks that the tenant's jobs have named; made when it is first asked for."""
        while (known := await self._signing.get(tenant)).value is None:
            with suppress(Outdated):
                await self._signing.put(tenant, Secrets.new(), expect=known.seq)
        return known.value

    async def rotate_signing(self, tenant: str, now: datetime) -> Secrets:
        """The same, with a new secret."""
        while True:
            await self.signing(tenant)
            known = await self._signing.get(tenant)
            if known.value:
                with suppress(Outdated):
                    rotated = known.value.rotated(now)
                    await self._signing.put(tenant, rotated, expect=known.seq)
                    return rotated


class Directory:
    """Every endpoint there is, as a process that delivers knows them."""

    def __init__(self, link: Link) -> None:
        self._mirror: Mirror[Endpoint] = Mirror(ENDPOINTS, Endpoint)
        self._mirror.open(link)

    async def look(self, *, oldest: float) -> None:
        """Look again, unless that was done in the last `oldest` seconds. Raises Unanswered."""
        await self._mirror.look(oldest=oldest)

    def get(self, tenant: str, id: str) -> Endpoint | None:
        return self._mirror.values.get(name_of(tenant, id))

    def by_tenant(self) -> Mapping[str, Mapping[str, Endpoint]]:
        """All of them: each tenant's, by their ids."""
        found: defaultdict[str, dict[str, Endpoint]] = defaultdict(dict)
        for name, endpoint in self._mirror.values.items():
            tenant, _, id = name.partition(".")
            found[tenant][id] = endpoint
        return found


def _id_of(tenant: str, key: str) -> str:
    """What an endpoint that is made with an Idempotency-Key is called."""
    return base64.b32encode(hashlib.sha256(f"{tenant}\n{key}".encode()).digest()[:10]).decode().lower()


def is_endpoint(id: str) -> bool:
    """Whether this can be the id of an endpoint at all."""
    return bool(_ID.fullmatch(id))


def name_of(tenant: str, id: str) -> str:
    """What an endpoint's setting is called: two tokens, so that a tenant's are found without looking at the others'."""
    return f"{tenant}.{id}"
