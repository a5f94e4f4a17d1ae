"""`headrace audit …`, typed against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from actors.audit.checkpoint import CHECKPOINTS, PRIVATE_KEY, PUBLIC_KEY
from actors.clock import Clock
from actors.contracts.events import parse
from actors.journal import Journal
from actors.journal.server import EmbeddedServer
from actors.journal.topology import AUDIT, ensure
from tests.installation import ROOT, installation
from tests.integration.conftest import R1
from tests.ledger import FACTS, a_job, copied, jobs, until
from tests.nats_servers import Servers
from tests.scribe import Scribe
from tests.serving import settings_for

PROGRAM = Path(sys.executable).with_name("headrace")


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str


async def typed(*args: str, data: Path) -> Said:
    """What `headrace audit` says to this."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}

    def run() -> Said:
        done = subprocess.run(
            [PROGRAM, "audit", *args],
            env={**known, "HEADRACE_DATA": str(data)},
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Said(done.returncode, done.stdout, done.stderr)

    return await asyncio.to_thread(run)


def from_where_it_starts(data: Path) -> Path:
    """A data folder as a relative path, which its processes elsewhere do not share."""
    return Path(os.path.relpath(data, ROOT))


def damage(data: Path) -> None:
    """Change one bit of the first entry of the audit log in a data folder."""
    [block] = data.glob(f"nats/jetstream/*/streams/{AUDIT}/msgs/*.blk")
    stored = bytearray(block.read_bytes())
    stored[stored.index(b'"stage"') + 9] ^= 1
    block.write_bytes(stored)


@dataclass(frozen=True)
class Kept:
    """A data folder with a log in it."""

    data: Path
    journal: Journal
    jobs: list[Scribe]


@pytest_asyncio.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    """A data folder whose server runs, as that of `headrace up` does."""
    async with EmbeddedServer(tmp_path / "nats") as server, Journal.open([server.url], "test") as journal:
        await ensure(journal.signals, ["write"], max_bytes=1 << 24, audit_max_bytes=1 << 24)
        yield Kept(tmp_path, journal, await jobs(journal, 3))


async def test_a_log_is_checkpointed_and_verified_while_its_server_runs(kept: Kept) -> None:
    before = await typed("verify", data=kept.data)
    assert before.status == 0
    assert "there are no checkpoints" in before.err
    signed = await typed("checkpoint", data=kept.data)
    assert (signed.status, "signed 1 checkpoints" in signed.err) == (0, True)
    assert "there is nothing new to sign" in (await typed("checkpoint", data=kept.data)).err
    after = await typed("verify", data=kept.data)
    assert (after.status, after.out) == (0, "")
    assert "read 9 entries of 3 jobs (0 without an outcome yet); 1 checkpoints cover 9 of them" in after.err
    assert "all of it is there, unaltered and in order" in after.err


async def test_a_log_is_verified_when_nothing_runs(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "nats") as server, Journal.open([server.url], "test") as journal:
        await ensure(journal.signals, ["write"], max_bytes=1 << 24, audit_max_bytes=1 << 24)
        [job] = await jobs(journal, 1)
    assert (await typed("checkpoint", data=tmp_path)).status == 0
    damage(tmp_path)
    said = await typed("verify", data=tmp_path)
    assert said.status == 1
    assert said.out.startswith(f"missing    {job.address.job}  entry 1 cannot be read; among them its event 1")
    assert said.err.splitlines()[-1].startswith("headrace: the audit log is not whole: ")
    told = [json.loads(line) for line in (await typed("verify", "--json", data=tmp_path)).out.splitlines()]
    assert {(finding["flaw"], finding["job"]) for finding in told} == {("missing", job.address.job)}
    exported = await typed("export", data=tmp_path)
    assert (exported.status, len(exported.out.splitlines())) == (1, FACTS - 1)
    assert "1 entries cannot be read; see which with: headrace audit verify" in exported.err


async def test_checkpoints_are_checked_with_a_key_that_was_kept_elsewhere(kept: Kept, tmp_path: Path) -> None:
    await typed("checkpoint", data=kept.data)
    ours, vault = kept.data / "audit", tmp_path / "vault"
    vault.mkdir()
    (ours / PUBLIC_KEY).rename(vault / "auditor.pub")
    for name in (PRIVATE_KEY, CHECKPOINTS):
        (ours / name).unlink()
    await typed("checkpoint", data=kept.data)  # by whoever has the folder now
    assert (await typed("verify", data=kept.data)).status == 0
    said = await typed("verify", "--key", str(vault / "auditor.pub"), data=kept.data)
    assert said.status == 1
    assert "is not what this key signed" in said.out


async def test_an_export_is_read_by_the_cloudevents_library_and_goes_on_after_a_position(kept: Kept) -> None:
    file = kept.data / "facts.jsonl"
    assert (await typed("export", "--output", str(file), data=kept.data)).status == 0
    events = [JSONFormat().read(CloudEvent, line) for line in file.read_text().splitlines()]
    assert [event.get_type() for event in events[:FACTS]] == [
        "headrace.handoff",
        "headrace.step.started",
        "headrace.completed",
    ]
    assert [event.get_subject() for event in events] == [job.address.job for job in kept.jobs for _ in range(FACTS)]
    for event in events:
        assert parse(json.dumps(event.get_data()).encode()).kind == event.get_type().removeprefix("headrace.")
    later = await a_job(kept.journal)
    await copied(kept.journal, later.chain.seq)
    rest = await typed("export", "--after", str(events[-1].get_extension("position")), data=kept.data)
    assert [json.loads(line)["subject"] for line in rest.out.splitlines()] == [later.address.job] * FACTS
    one = await typed("export", "--job", kept.jobs[1].address.job, data=kept.data)
    assert [json.loads(line)["subject"] for line in one.out.splitlines()] == [kept.jobs[1].address.job] * FACTS


async def test_a_replay_says_what_it_rebuilt(kept: Kept) -> None:
    said = await typed("replay", data=kept.data)
    assert said.status == 0
    assert said.out.split() == ["completed", "3"]
    assert "rebuilt 3 jobs; 0 of them are in the audit log alone" in said.err


@pytest.mark.parametrize("command", ["verify", "export", "replay", "checkpoint"])
async def test_where_there_is_no_log_it_says_what_to_do(tmp_path: Path, command: str) -> None:
    said = await typed(command, data=tmp_path)
    assert said.status == 1
    assert said.err.splitlines()[-1].startswith("headrace: there is no log in ")
    assert "--nats-url" in said.err
    assert not any(os.scandir(tmp_path))


async def test_a_server_without_an_audit_log_is_said_to_be_the_wrong_one(r1: Servers, tmp_path: Path) -> None:
    said = await typed("verify", "--nats-url", r1.url, data=tmp_path)
    assert said.status == 1
    assert "there is no audit log here" in said.err


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_an_installation_signs_what_its_log_holds_in_its_data_folder(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "nats") as server, Journal.open([server.url], "test") as journal:
        await ensure(journal.signals, ["write"], max_bytes=1 << 24, audit_max_bytes=1 << 24)
        await jobs(journal, 3)

    async def is_signed() -> bool:
        return (tmp_path / "audit" / CHECKPOINTS).exists()

    beside = from_where_it_starts(tmp_path)
    with ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, installation(beside, pipelines=("tests.pipelines:recital",)))
        await until(is_signed)
        running = await typed("verify", data=tmp_path)
        await asyncio.to_thread(stack.close)
    stopped = await typed("verify", data=tmp_path)
    for said in (running, stopped):
        assert said.status == 0, said.err
        assert "1 checkpoints cover 9 of them" in said.err


@R1
async def test_a_running_clock_signs_checkpoints_by_itself(journal: Journal, servers: Servers, tmp_path: Path) -> None:
    await jobs(journal, 2)
    clock = Clock(settings_for(servers, data=tmp_path, checkpoint_every=0.05), every=0.05)
    running = asyncio.create_task(clock.run())

    def count() -> int:
        path = tmp_path / "audit" / CHECKPOINTS
        return path.read_bytes().count(b"\n") if path.exists() else 0

    async def has_one() -> bool:
        return count() == 1

    async def has_two() -> bool:
        return count() == 2

    try:
        await until(has_one)
        await jobs(journal, 1)
        await until(has_two)
    finally:
        await clock.stop(1.0)
        await running
    said = await typed("verify", "--nats-url", servers.url, data=tmp_path)
    assert said.status == 0
    assert "2 checkpoints cover 9 of them" in said.err
