"""The streams are made once, by whoever is first, on whatever room there is."""

from __future__ import annotations

import asyncio
from pathlib import Path

from actors.journal import Journal
from actors.journal.server_config import Identity, is_free
from actors.journal.topology import AUDIT, JOBS, ensure
from tests.nats_servers import Node, Servers

MIB = 1 << 20


async def test_streams_that_leave_little_room_are_found_there_by_everybody_else(tmp_path: Path) -> None:
    identity = Identity.new(is_free).model_copy(update={"room": 150 * MIB})
    servers = Servers([Node(identity, tmp_path)])
    await servers.start()
    try:
        async with Journal.open(servers.urls, "test") as journal:
            wanted = {"max_bytes": 88 * MIB, "audit_max_bytes": 33 * MIB}
            await asyncio.gather(*(ensure(journal.signals, ["write"], **wanted) for _ in range(3)))
            await ensure(journal.signals, ["write"], **wanted)
            await ensure(journal.signals, ["write"], max_bytes=80 * MIB, audit_max_bytes=33 * MIB)
            held = {name: await journal.signals.api(f"STREAM.INFO.{name}") for name in (JOBS, AUDIT)}
        assert {name: info["config"]["max_bytes"] for name, info in held.items()} == {
            JOBS: 80 * MIB,
            AUDIT: 33 * MIB,
        }
    finally:
        await servers.close()
