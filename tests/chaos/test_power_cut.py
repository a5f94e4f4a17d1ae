"""The power of the machine that holds the log is cut, again and again: no job that was accepted is lost.

The server's disk is a file system in a file. At a cut, that file is copied as it is: what was only in the memory of
the kernel is not in it. The server is killed, the copy is checked as after any crash, and the server goes on from it.
`make chaos CUTS=50` cuts more often.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from actors.contracts.events import Completed
from actors.contracts.fold import fold_job
from actors.journal import Journal, Refused
from actors.journal.topology import ensure
from tests.disk import Disk, mounted
from tests.nats_servers import Servers, lone
from tests.pipelines import Anything, keep, keeper
from tests.scribe import Scribe, an_origin
from tests.verify import verify
from tests.workers import a_hand

CUTS = int(os.environ.get("CUTS") or 2)
SEED = int(os.environ.get("SEED") or 20261123)
CLIENTS = 16
THINK_S = 0.05
SIZE = 1 << 30
LOG_BYTES = 256 << 20
END_S = 300.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path, SIZE) as disk:
        yield disk


class Client:
    """Posts one job after the other and remembers those that were accepted."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.accepted: list[Scribe] = []
        self._taken = 0

    def take_new(self) -> list[Scribe]:
        """Those that were accepted since this was asked last."""
        new = self.accepted[self._taken :]
        self._taken += len(new)
        return new

    async def run(self, until: asyncio.Event) -> None:
        while not until.is_set():
            origin = an_origin(pipeline=keeper.name, version=keeper.version)
            job = Scribe(self._journal.appender, origin=origin)
            with contextlib.suppress(Refused):  # stored before the cut and its answer lost: accepted all the same
                await job.hand_off("keep", Anything(data=secrets.token_hex(64)))
            self.accepted.append(job)
            await asyncio.sleep(THINK_S)


async def cut(servers: Servers, disk: Disk) -> None:
    """Cut the power of a server that does nothing right now, and start it again on what is left."""
    copy = await asyncio.to_thread(disk.freeze)
    await servers.kill()
    await asyncio.to_thread(disk.come_back_as, copy)
    await servers.start()


async def missing(journal: Journal, jobs: list[Scribe]) -> list[str]:
    """Those of these jobs that the log does not have."""
    found = [job.address for job in jobs]
    return [a.job for a in found if await journal.reader.last(a.tenant, a.job) is None]


@pytest.mark.chaos
@pytest.mark.timeout(400 + 30 * CUTS)
async def test_a_power_cut_loses_no_job_that_was_accepted(disk: Disk, tmp_path: Path) -> None:
    rng, over = Random(SEED), asyncio.Event()
    servers = lone(disk.path / "nats")
    await servers.start()
    try:
        async with Journal.open(servers.urls, "power") as journal:
            await ensure(journal.signals, ["keep"], max_bytes=LOG_BYTES, audit_max_bytes=LOG_BYTES, ack_wait=2.0)
            clients = [Client(journal) for _ in range(CLIENTS)]
            async with a_hand(servers, keeper, keep, ack_wait=2.0):
                running = [asyncio.create_task(client.run(over)) for client in clients]
                for _ in range(CUTS):
                    await asyncio.sleep(rng.uniform(0.2, 1.0))
                    servers.freeze()
                    new = [job for client in clients for job in client.take_new()]
                    await cut(servers, disk)
                    await journal.wait_until_up()
                    assert new, "nothing was accepted since the last cut: it shows nothing"
                    assert await missing(journal, new) == []
                over.set()
                await asyncio.gather(*running)
                accepted = [job for client in clients for job in client.accepted]
                async with asyncio.timeout(END_S):
                    for job in accepted:
                        await ended(journal, job)
    finally:
        await servers.close()
    figures = {"cuts": CUTS, "seed": SEED, "jobs_accepted": len(accepted), "jobs_lost": 0}
    print(f"\n{CUTS} power cuts, {len(accepted):,} jobs accepted, 0 lost")
    if result := os.environ.get("RESULT"):
        path = Path(result)
        path.with_stem(f"{path.stem}_power_cuts").write_text(json.dumps(figures, indent=2) + "\n")


@pytest.mark.chaos
async def test_without_syncs_the_same_cut_loses_jobs(disk: Disk) -> None:
    """It is a power cut indeed: a server that does not sync what it acknowledges does not survive it."""
    servers = lone(disk.path / "nats", sync="2m")
    await servers.start()
    try:
        async with Journal.open(servers.urls, "power") as journal:
            await ensure(journal.signals, ["keep"], max_bytes=LOG_BYTES, audit_max_bytes=LOG_BYTES)
            jobs = [Scribe(journal.appender) for _ in range(50)]
            for job in jobs:
                await job.hand_off("keep")
            servers.freeze()
            await cut(servers, disk)
            await journal.wait_until_up()
            await ensure(journal.signals, ["keep"], max_bytes=LOG_BYTES, audit_max_bytes=LOG_BYTES)
            assert await missing(journal, jobs)
    finally:
        await servers.close()


async def ended(journal: Journal, job: Scribe) -> None:
    """Wait until a job has its outcome; it is the right one, and its log is whole."""
    while True:
        records = await journal.reader.job(job.address.tenant, job.address.job)
        state = fold_job(records)
        if state and state.outcome:
            break
        await asyncio.sleep(0.1)
    verify(records)
    assert isinstance(state.outcome, Completed)
