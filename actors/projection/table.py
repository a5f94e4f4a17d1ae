"""The table of jobs: a file, which any process of this machine may bring forward or read."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from actors.contracts.errors import HeadraceError
from actors.contracts.events import Record
from actors.contracts.subjects import EVERY_TENANT, Subject
from actors.projection.entry import OPEN, Entry, entered

FILE = "jobs.sqlite"
SCHEMA = 1
BUSY_S = 5.0

P = ParamSpec("P")
T = TypeVar("T")

_TABLES = """
CREATE TABLE jobs (
    tenant TEXT NOT NULL, job TEXT NOT NULL, pipeline TEXT NOT NULL, lane TEXT NOT NULL, status TEXT NOT NULL,
    stage TEXT, created INTEGER NOT NULL, updated INTEGER NOT NULL, PRIMARY KEY (tenant, job)) WITHOUT ROWID;
CREATE INDEX newest ON jobs (tenant, created DESC, job DESC);
CREATE INDEX newest_of_all ON jobs (created DESC, job DESC);
CREATE TABLE position (seq INTEGER NOT NULL, log TEXT NOT NULL, digest TEXT NOT NULL);
INSERT INTO position VALUES (0, '', '');
"""
_COLUMNS = "tenant, job, pipeline, lane, status, stage, created, updated"


class TableError(HeadraceError):
    """The table cannot be kept here; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Position:
    """Up to which sequence of which log the table knows the facts, and the digest of the last of them."""

    seq: int = 0
    log: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """Which jobs are asked for, the newest first: those before the place of the last one that was seen."""

    tenant: str
    limit: int
    statuses: Sequence[str] = ()
    pipeline: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: tuple[int, str] | None = None


class Table:
    """Keeps the entries of all jobs in a file. Whatever is wrong with the file, it is made anew, and filled again.

    Nothing is lost with it. Who brings it forward says from where: of two that do, one finds that it was done. What
    takes long takes turns on a thread of its own, so that nothing else in the process waits for the file, which stays
    open: with the last that closes it goes a sync. Raises TableError when the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._thread = ThreadPoolExecutor(1, "jobs-table")
        self._kept: tuple[int, sqlite3.Connection] | None = None

    async def aside(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do this on the table's own thread, after what was asked of it before."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **kwargs))

    def close(self) -> None:
        """Nothing more is done aside; what has begun ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def position(self) -> Position:
        """How far it has come."""
        with self._open() as table:
            return Position(*table.execute("SELECT seq, log, digest FROM position").fetchone())

    def bring_forward(self, records: Iterable[Record], before: Position, after: Position) -> bool:
        """Enter these facts, which follow each other, if the table stands at `before`; whether it did."""
        with self._open() as table, _writing(table):
            if Position(*table.execute("SELECT seq, log, digest FROM position").fetchone()) != before:
                return False
            for entry in _entries(table, records):
                table.execute(f"REPLACE INTO jobs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _row(entry))
            table.execute("UPDATE position SET seq = ?, log = ?, digest = ?", (after.seq, after.log, after.digest))
            return True

    def begin_anew(self, log: str = "") -> Position:
        """Forget everything, for the facts of this log to be entered from the first on."""
        with self._open() as table, _writing(table):
            table.execute("DELETE FROM jobs")
            table.execute("UPDATE position SET seq = 0, log = ?, digest = ''", (log,))
        return Position(log=log)

    def ended(self) -> set[tuple[str, str]]:
        """The jobs that have their outcome, each with its tenant first."""
        with self._open() as table:
            marks = ", ".join("?" * len(OPEN))
            return set(table.execute(f"SELECT tenant, job FROM jobs WHERE status NOT IN ({marks})", OPEN))

    def strike(self, jobs: Iterable[tuple[str, str]]) -> None:
        """Take out jobs that the log does not have any more, all at once: others wait meanwhile."""
        with self._open() as table, _writing(table):
            table.executemany("DELETE FROM jobs WHERE tenant = ? AND job = ?", jobs)

    def strike_open(self, *, older: datetime) -> None:
        """Take out jobs without an outcome that are older than anything in the log."""
        with self._open() as table, _writing(table):
            marks = ", ".join("?" * len(OPEN))
            table.execute(f"DELETE FROM jobs WHERE created < ? AND status IN ({marks})", (_micros(older), *OPEN))

    def page(self, query: Query) -> list[Entry]:
        """The newest jobs that are asked for."""
        wheres: list[tuple[str, Sequence[object]]] = []
        if query.tenant != EVERY_TENANT:
            wheres.append(("tenant = ?", (query.tenant,)))
        if query.statuses:
            wheres.append((f"status IN ({', '.join('?' * len(query.statuses))})", query.statuses))
        if query.pipeline is not None:
            wheres.append(("pipeline = ?", (query.pipeline,)))
        if query.since is not None:
            wheres.append(("created >= ?", (_micros(query.since),)))
        if query.until is not None:
            wheres.append(("created < ?", (_micros(query.until),)))
        if query.before is not None:
            wheres.append(("(created, job) < (?, ?)", query.before))
        where = " AND ".join(clause for clause, _ in wheres) or "1"
        ask = f"SELECT {_COLUMNS} FROM jobs WHERE {where} ORDER BY created DESC, job DESC LIMIT ?"
        given = [value for _, values in wheres for value in values]
        with self._open() as table:
            return [_entry(row) for row in table.execute(ask, (*given, query.limit))]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connection()
        except sqlite3.DatabaseError as error:
            self._leave()
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                why = (
                    f"the list of jobs cannot be kept in {self._path}: {error}; make room there, and let it be written"
                )
                raise TableError(why) from error
            self._discard()
            raise TableError(f"the list of jobs in {self._path} was damaged; it is made anew: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        """The file that is there now: it may have been made anew by another process."""
        if self._kept and self._kept[0] != self._inode():
            self._leave()
        if self._kept is None:
            table = self._connected()
            self._kept = (self._inode(), table)
        return self._kept[1]

    def _inode(self) -> int:
        try:
            return self._path.stat().st_ino
        except OSError:
            return 0

    def _leave(self) -> None:
        if self._kept:
            self._kept[1].close()
            self._kept = None

    def _connected(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise TableError(f"the list of jobs cannot be kept in {self._path}: {error.strerror}") from error
        table = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            # It can be made again from the log, so nobody waits for the disk but at a checkpoint. Without that a power
            # cut could keep the position and lose jobs from before it. Source: sqlite.org/pragma.html, synchronous
            table.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
            if table.execute("PRAGMA user_version").fetchone() != (SCHEMA,):
                with _writing(table):
                    if table.execute("PRAGMA user_version").fetchone() != (SCHEMA,):
                        _make(table)
        except sqlite3.Error:
            table.close()
            raise
        return table

    def _discard(self) -> None:
        self._leave()
        for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
            self._path.with_name(name).unlink(missing_ok=True)


def _make(table: sqlite3.Connection) -> None:
    for name in ("jobs", "position"):
        table.execute(f"DROP TABLE IF EXISTS {name}")
    for statement in _TABLES.split(";"):
        table.execute(statement)
    table.execute(f"PRAGMA user_version = {SCHEMA}")


@contextmanager
def _writing(table: sqlite3.Connection) -> Iterator[None]:
    table.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if table.in_transaction:  # SQLite ends it itself where there is no room
            table.execute("ROLLBACK")
        raise
    table.execute("COMMIT")


def _entries(table: sqlite3.Connection, records: Iterable[Record]) -> Iterator[Entry]:
    """What the table says of each job that these facts are of, after them."""
    known: dict[tuple[str, str], Entry | None] = {}
    for record in records:
        if (subject := Subject.of(record.subject)) is None:
            continue
        key = (subject.tenant, subject.job)
        if key not in known:
            row = table.execute(f"SELECT {_COLUMNS} FROM jobs WHERE tenant = ? AND job = ?", key).fetchone()
            known[key] = _entry(row) if row else None
        known[key] = entered(known[key], record)
    return (entry for entry in known.values() if entry)


def _row(entry: Entry) -> tuple[object, ...]:
    created, updated = _micros(entry.created), _micros(entry.updated)
    return entry.tenant, entry.job, entry.pipeline, entry.lane, entry.status, entry.stage, created, updated


def _entry(row: Sequence[object]) -> Entry:
    tenant, job, pipeline, lane, status, stage, created, updated = row
    return Entry(tenant, job, pipeline, lane, status, stage, moment(created), moment(updated))  # type: ignore[arg-type]


def _micros(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000)


def moment(micros: int) -> datetime:
    """A time as the table keeps it: in microseconds since 1970."""
    return datetime.fromtimestamp(micros / 1_000_000, UTC)


def place(entry: Entry) -> str:
    """Where a page goes on after this one."""
    return f"{_micros(entry.created)}.{entry.job}"
