"""Callers of an installation that is closed: tenants with their keys, and everybody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from actors.journal import Link
from actors.journal.api_keys import ApiKeys
from actors.journal.topology import ensure_settings
from tests.nats_servers import Servers


@dataclass(frozen=True)
class Keys:
    """A key of each kind, as `Authorization` has it; `revoked` and `expired` were the first tenant's."""

    acme: str
    rival: str
    operator: str
    revoked: str
    expired: str


@asynccontextmanager
async def key_office(servers: Servers) -> AsyncIterator[ApiKeys]:
    """Where keys are made, as `headrace keys` does it."""
    link = await Link.open(servers.urls, "keys")
    try:
        await ensure_settings(link, replicas=servers.replicas)
        yield ApiKeys(link)
    finally:
        await link.close()


async def a_key_each(office: ApiKeys) -> Keys:
    now = datetime.now(UTC)
    revoked = await office.make("acme", now=now)
    await office.revoke(revoked.id, now=now)
    expired = await office.make("acme", now=now, expires=now - timedelta(seconds=1))
    return Keys(
        acme=(await office.make("acme", now=now)).text,
        rival=(await office.make("rival-9.1", now=now)).text,
        operator=(await office.make("local", now=now, is_operator=True)).text,
        revoked=revoked.text,
        expired=expired.text,
    )


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
