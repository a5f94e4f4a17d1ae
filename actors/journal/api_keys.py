"""The API keys of an installation: they are made, listed and revoked here."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from actors.contracts.api_key import ApiKey, NewKey, digest_of, new_api_key
from actors.contracts.tenant import Tenant, token_of
from actors.journal.connection import Link
from actors.journal.shelf import KEYS, TENANTS, Outdated, Shelf


class ApiKeys:
    """Sets keys; the processes that answer requests see it within a second. Everything raises Unanswered."""

    def __init__(self, link: Link) -> None:
        self._keys = Shelf(link, KEYS, ApiKey)
        self._tenants = Shelf(link, TENANTS, Tenant)

    async def make(
        self,
        tenant: str,
        *,
        now: datetime,
        name: str = "",
        is_operator: bool = False,
        expires: datetime | None = None,
    ) -> NewKey:
        """A new key of the tenant with this name; it is shown now or never. Raises ValueError for no tenant's name."""
        token, new = token_of(tenant), new_api_key()
        if (known := await self._tenants.get(token)).value is None:
            with suppress(Outdated):  # then somebody has just made the same
                await self._tenants.put(token, Tenant(name=tenant), expect=known.seq)
        key = ApiKey(
            tenant=token,
            digest=digest_of(new.text),
            created=now,
            name=name,
            is_operator=is_operator,
            expires=expires,
        )
        await self._keys.put(new.id, key, expect=0)
        return new

    async def all(self) -> dict[str, ApiKey]:
        """Every key that was made, by its id, also those that are no good any more."""
        return {entry.name: entry.value for entry in await self._keys.all() if entry.value}

    async def tenants(self) -> dict[str, str]:
        """The tenants' names, by what stands for them in subjects."""
        return {entry.name: entry.value.name for entry in await self._tenants.all() if entry.value}

    async def revoke(self, id: str, *, now: datetime) -> ApiKey | None:
        """Let a key open nothing any more; doing it again is harmless. None when there is no such key."""
        while (known := await self._keys.get(id)).value is not None:
            if known.value.revoked:
                return known.value
            revoked = known.value.model_copy(update={"revoked": now})
            try:
                await self._keys.put(id, revoked, expect=known.seq)
            except Outdated:
                continue
            return revoked
        return None

    async def forget(self, id: str) -> None:
        """Take a key away that nobody was ever given."""
        await self._keys.put(id, None, expect=(await self._keys.get(id)).seq)
