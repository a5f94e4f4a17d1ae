"""The store: one SQLite file with every passage, its words (FTS5) and its meaning (sqlite-vec). The door to both."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import apsw
import sqlite_vec

from actors.contracts.errors import HeadraceError
from actors.index.embedding import DIMENSIONS, NAME, embedding

VERSION = 1
BUSY_MS = 30_000
"""How long to wait while another process writes."""

CANDIDATES = 20
"""How many passages each of the two ways proposes."""

NEAR = 0.28
"""The least cosine of two meanings that have to do with each other; of unrelated texts it is below."""

RANKS = 60
"""The constant of reciprocal rank fusion (Cormack et al. 2009): the larger, the less the first ranks count."""

_WORD = re.compile(r"\w+")
_COMMON = frozenset(
    """
    a about an and any are as at be been but by can could did do does for from had has have how i if in into is it
    its me much my no not of on or our please shall she should so some tell that the their them then there these
    they this to us was we were what when where which who whom whose why will with would you your
    """.split()  # noqa: SIM905  # one a line would be sixty lines
)
"""Words that a question has whatever it is about."""

_TABLES = f"""
CREATE TABLE made_with (embedding TEXT NOT NULL);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY, folder TEXT NOT NULL, path TEXT NOT NULL, digest BLOB NOT NULL, stamp TEXT NOT NULL,
    UNIQUE (folder, path)
);
CREATE TABLE passages (id INTEGER PRIMARY KEY, document INTEGER NOT NULL);
CREATE INDEX passages_of ON passages (document);
CREATE VIRTUAL TABLE words USING fts5(source UNINDEXED, text, tokenize = 'porter unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE meanings USING vec0(embedding FLOAT[{DIMENSIONS}] distance_metric=cosine);
PRAGMA user_version = {VERSION};
"""


class IndexUnusable(HeadraceError):
    """The index cannot be read or written; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """A passage, and where it stands."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Known:
    """A document as it was when it was indexed: the digest of its bytes, and what its file's status said."""

    digest: bytes
    stamp: str


class Store:
    """An index, open. A document is in it with all of its passages or not at all, whatever is killed meanwhile.

    Any number of processes may read while one writes. Thread-safe; every method blocks, for milliseconds.
    """

    def __init__(self, connection: apsw.Connection, path: str) -> None:
        self._db = connection
        self._path = path
        self._alone = threading.Lock()

    @classmethod
    def open(cls, path: Path | None, *, create: bool = False) -> Self:
        """The index in a file, or an empty one in memory. Raises IndexUnusable."""
        name = str(path) if path else ":memory:"
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create or path is None else 0)
        try:
            connection = apsw.Connection(name, flags)
            connection.set_busy_timeout(BUSY_MS)
            connection.enable_load_extension(True)
            connection.load_extension(sqlite_vec.loadable_path())
            connection.enable_load_extension(False)
            store = cls(connection, name)
            store._prepare(create=create or path is None)
        except apsw.Error as error:
            raise IndexUnusable(f"{name} cannot be opened as an index: {error}") from error
        return store

    def close(self) -> None:
        self._db.close()

    def search(self, question: str, most: int) -> list[Found]:
        """The passages that bear on a question, best first: those that share its words, and those near its meaning.

        The two rankings are joined by reciprocal rank fusion. None comes that is in neither.
        """
        meaning = embedding()([question])[0].tobytes()
        with self._alone:
            scores: dict[int, float] = {}
            for ranking in (self._by_words(question), self._by_meaning(meaning)):
                for rank, passage in enumerate(ranking, start=1):
                    scores[passage] = scores.get(passage, 0.0) + 1 / (RANKS + rank)
            best = sorted(scores, key=lambda passage: (-scores[passage], passage))[:most]
            return [self._passage(passage) for passage in best]

    def known(self, folder: str) -> dict[str, Known]:
        """The documents of a folder that are in the index, by their paths."""
        with self._alone:
            rows = self._db.execute("SELECT path, digest, stamp FROM documents WHERE folder = ?", (folder,))
            return {str(path): Known(bytes(digest), str(stamp)) for path, digest, stamp in rows}

    def put(self, folder: str, path: str, known: Known, passages: Sequence[Found]) -> None:
        """Store a document, in place of what there was of it; durable when it returns."""
        meanings = embedding()([passage.text for passage in passages])
        with self._alone, self._writing():
            self._remove(folder, path)
            self._db.execute(
                "INSERT INTO documents (folder, path, digest, stamp) VALUES (?, ?, ?, ?)",
                (folder, path, known.digest, known.stamp),
            )
            document = self._db.last_insert_rowid()
            for passage, meaning in zip(passages, meanings, strict=True):
                self._db.execute("INSERT INTO passages (document) VALUES (?)", (document,))
                row = self._db.last_insert_rowid()
                self._db.execute(
                    "INSERT INTO words (rowid, source, text) VALUES (?, ?, ?)", (row, passage.source, passage.text)
                )
                self._db.execute("INSERT INTO meanings (rowid, embedding) VALUES (?, ?)", (row, meaning.tobytes()))

    def touch(self, folder: str, path: str, stamp: str) -> None:
        """Note that a document's file has another status and the same bytes."""
        with self._alone, self._writing():
            self._db.execute("UPDATE documents SET stamp = ? WHERE folder = ? AND path = ?", (stamp, folder, path))

    def remove(self, folder: str, path: str) -> None:
        """Take a document out; durable when it returns."""
        with self._alone, self._writing():
            self._remove(folder, path)

    def count(self) -> tuple[int, int]:
        """How many documents and how many passages there are."""
        with self._alone:
            [(documents, passages)] = self._db.execute(
                "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM passages)"
            )
            return int(documents), int(passages)

    def _prepare(self, *, create: bool) -> None:
        if create and not self._version():
            with self._writing():
                if not self._version():  # another process may have been quicker
                    self._db.execute(_TABLES)
                    self._db.execute("INSERT INTO made_with VALUES (?)", (NAME,))
        version = self._version()
        made_with = self._db.execute("SELECT embedding FROM made_with").get if version == VERSION else None
        if made_with != NAME:
            raise IndexUnusable(f"{self._path} is no index that this version can read: remove it, and index anew")

    def _version(self) -> int:
        return int(self._db.pragma("user_version"))

    def _writing(self) -> _Transaction:
        return _Transaction(self._db, self._path)

    def _remove(self, folder: str, path: str) -> None:
        of = "SELECT id FROM passages WHERE document IN (SELECT id FROM documents WHERE folder = ? AND path = ?)"
        for row in [row for (row,) in self._db.execute(of, (folder, path))]:
            for table, column in (("words", "rowid"), ("meanings", "rowid"), ("passages", "id")):
                self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (row,))
        self._db.execute("DELETE FROM documents WHERE folder = ? AND path = ?", (folder, path))

    def _by_words(self, question: str) -> list[int]:
        words = dict.fromkeys(word.lower() for word in _WORD.findall(question))
        asked = " OR ".join(f'"{word}"' for word in words if word not in _COMMON)
        if not asked:
            return []
        found = self._db.execute(
            "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?", (asked, CANDIDATES)
        )
        return _firsts(found)

    def _by_meaning(self, meaning: bytes) -> list[int]:
        if not any(meaning):
            return []
        found = self._db.execute(
            "SELECT rowid, distance FROM meanings WHERE embedding MATCH ? AND k = ? ORDER BY distance",
            (meaning, CANDIDATES),
        )
        return _firsts(row for row in found if float(str(row[1])) <= 1 - NEAR)

    def _passage(self, row: int) -> Found:
        [(source, text)] = self._db.execute("SELECT source, text FROM words WHERE rowid = ?", (row,))
        return Found(str(source), str(text))


class _Transaction:
    """What is written inside is stored all together, or not at all."""

    def __init__(self, db: apsw.Connection, path: str) -> None:
        self._db = db
        self._path = path

    def __enter__(self) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            raise IndexUnusable(f"{self._path} cannot be written: {error}") from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            self._db.execute("ROLLBACK" if error else "COMMIT")
        except apsw.Error as refused:
            raise IndexUnusable(f"{self._path} cannot be written: {refused}") from refused


def _firsts(rows: Iterable[Sequence[object]]) -> list[int]:
    return [int(str(row[0])) for row in rows]
