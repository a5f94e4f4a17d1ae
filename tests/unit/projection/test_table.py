"""The table of jobs: how its file is written, and on which thread."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from actors.contracts.events import Completed, Record, place
from actors.contracts.messages import Packed
from actors.contracts.subjects import EVERY_TENANT, Address
from actors.projection.table import Position, Query, Table, TableError
from tests.scribe import Note, an_origin, new_address


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    table = Table(tmp_path)
    yield table
    table.close()


def enter(table: Table, *jobs: Address) -> None:
    """Jobs that have their outcome."""
    for job in jobs:
        before = table.position()
        after = Position(before.seq + 1)
        event = Completed(n=1, by="test", at=datetime.now(UTC), origin=an_origin(), answer=Packed.of(Note()))
        record = Record(after.seq, str(job.subject(*place(event))), event.encode())
        assert table.bring_forward([record], before, after)


class Watched(sqlite3.Connection):
    """Knows what it was asked."""

    asked: list[str]


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Watched]:
    """Every connection to the table, the last one last."""
    found: list[Watched] = []
    connect = partial(sqlite3.connect, isolation_level=None, factory=Watched)

    def watched(path: Path, **_: object) -> sqlite3.Connection:
        connection = connect(path)
        assert isinstance(connection, Watched)
        connection.asked = []
        connection.set_trace_callback(connection.asked.append)
        found.append(connection)
        return connection

    monkeypatch.setattr(sqlite3, "connect", watched)
    return found


def test_the_file_stays_open_until_another_is_in_its_place(
    table: Table, connections: list[Watched], tmp_path: Path
) -> None:
    for _ in range(3):
        enter(table, new_address())
    assert len(connections) == 1
    for name in ("jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    assert table.position().seq == 0
    assert len(connections) == 2


def test_a_job_is_struck_for_its_tenant_without_a_look_at_any_other(
    table: Table, connections: list[Watched], tmp_path: Path
) -> None:
    mine = new_address()
    theirs = Address(mine.lane, "acme", mine.job)
    enter(table, mine, theirs, new_address())
    assert {(mine.tenant, mine.job), ("acme", mine.job)} < table.ended()
    table.strike([(mine.tenant, mine.job)])
    [delete] = [asked for asked in connections[-1].asked if asked.startswith("DELETE")]
    assert mine.job not in {job for tenant, job in table.ended() if tenant == mine.tenant}
    assert len(table.page(Query(EVERY_TENANT, 9))) == 2
    with sqlite3.connect(tmp_path / "jobs.sqlite") as file:
        plan = [row[3] for row in file.execute(f"EXPLAIN QUERY PLAN {delete}")]
    file.close()
    assert plan == ["SEARCH jobs USING PRIMARY KEY (tenant=? AND job=?)"]


def test_the_disk_has_what_came_before_when_a_checkpoint_is_made(table: Table, connections: list[Watched]) -> None:
    enter(table, new_address())
    [(said,)] = {tuple(connection.execute("PRAGMA synchronous").fetchone()) for connection in connections}
    assert said == 1  # NORMAL


def test_a_file_that_finds_no_room_is_said_to_and_keeps_what_is_in_it(table: Table, connections: list[Watched]) -> None:
    kept = new_address()
    enter(table, kept)
    connections[-1].execute("PRAGMA max_page_count = 8")
    with pytest.raises(TableError, match=r"cannot be kept in .* is full"):
        enter(table, *(new_address() for _ in range(500)))
    assert (kept.tenant, kept.job) in table.ended()


async def test_what_is_done_aside_is_done_on_one_thread_that_nobody_else_waits_for(table: Table) -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold() -> str:
        held.set()
        assert go_on.wait(20)
        return name()

    def name() -> str:
        return threading.current_thread().name

    asked = [asyncio.create_task(table.aside(work)) for work in (hold, *[name] * 100)]
    async with asyncio.timeout(20):
        await asyncio.to_thread(held.wait)  # the process has its threads, as many as ask
        go_on.set()
        [thread] = set(await asyncio.gather(*asked))
    assert thread.startswith("jobs-table")
