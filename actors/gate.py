"""The gate: whether an installation needs keys, and the key that its start has for itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from actors.contracts.errors import CannotStart
from actors.contracts.subjects import LOCAL
from actors.journal.api_keys import ApiKeys
from actors.journal.connection import Link
from actors.journal.topology import ensure_settings
from actors.runtime.settings import Settings
from actors.runtime.writer import utc_now

OWN_KEY = timedelta(hours=6)


async def is_closed(wanted: Settings, settings: Settings) -> bool:
    """Whether requests need a key. Raises CannotStart where they need none, and come from elsewhere, too."""
    async with _keys(settings) as keys:
        known = await keys.all()
    if not settings.is_loopback and not any(key.is_good(utc_now()) for key in known.values()):
        raise CannotStart(
            f"{settings.host} is no loopback address, so everybody who reaches it could use it, and there is no key "
            f"that is good: make one first, `{make_a_key(wanted)}`, or listen on 127.0.0.1"
        )
    return bool(known)


@asynccontextmanager
async def _keys(settings: Settings) -> AsyncIterator[ApiKeys]:
    link = await Link.open(settings.nats_urls, "headrace-up")
    try:
        await ensure_settings(link, replicas=settings.nats_replicas)
        yield ApiKeys(link)
    finally:
        await link.close()


@asynccontextmanager
async def own_key(settings: Settings) -> AsyncIterator[str | None]:
    """A key for what is asked during the start, where one is needed; nobody else is given it, and it ends with that."""
    async with _keys(settings) as keys:
        if not await keys.all():
            yield None
            return
        now = utc_now()
        key = await keys.make(LOCAL, now=now, name="headrace up", is_operator=True, expires=now + OWN_KEY)
        try:
            yield key.text
        finally:
            await keys.forget(key.id)


def make_a_key(settings: Settings) -> str:
    """The command that makes a key for an installation with these settings."""
    where = ""
    if settings.nats_url:
        where = " --nats-url URL"
    elif settings.data != Path(".headrace"):
        where = f" --data {settings.data}"
    return f"headrace keys create --tenant NAME{where}"
