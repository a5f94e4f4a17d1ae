from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from actors.audit.checkpoint import (
    PRIVATE_KEY,
    PUBLIC_KEY,
    Checkpoint,
    CheckpointError,
    Seal,
    Signer,
    Stretch,
    lines,
)
from actors.contracts.events import Record
from actors.journal.trail import Entry
from tests.records import JOB, START, Log

SIGNED = Checkpoint(
    at=START, first=1, last=3, entries=3, total=3, since=START, digest="d" * 64, jobs={JOB: "0123456789abcdef"}
)


def entries(records: list[Record]) -> list[Entry]:
    return [Entry(place, START, f"JOBS {r.seq}", r.data, r) for place, r in enumerate(records, 1)]


def stretch(records: list[Record]) -> Stretch:
    found = Stretch()
    for entry in entries(records):
        found.take(entry)
    return found


@pytest.fixture
def records() -> list[Record]:
    log = Log()
    return [log.hand_off(), log.start(), log.fail()]


def test_what_was_signed_is_read_back(tmp_path: Path) -> None:
    line = Signer.of(tmp_path).sign(SIGNED)
    assert Seal(tmp_path / PUBLIC_KEY).opened(line) == SIGNED
    assert json.loads(line)["jobs"] == {JOB: "0123456789abcdef"}


def test_the_key_is_made_once_and_is_for_this_user_alone(tmp_path: Path) -> None:
    line = Signer.of(tmp_path).sign(SIGNED)
    assert Signer.of(tmp_path).sign(SIGNED) == line
    assert stat.S_IMODE((tmp_path / PRIVATE_KEY).stat().st_mode) == 0o600
    assert b"PRIVATE" not in (tmp_path / PUBLIC_KEY).read_bytes()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"last":3', b'"last":2'),
        (b'"total":3', b'"total":4'),
        (b"0123", b"3210"),
        (b'"signature":"', b'"signature":"0'),
    ],
)
def test_a_line_that_was_changed_is_not_opened(tmp_path: Path, before: bytes, after: bytes) -> None:
    line = Signer.of(tmp_path).sign(SIGNED)
    assert before in line
    assert Seal(tmp_path / PUBLIC_KEY).opened(line.replace(before, after)) is None


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b'{"signature":"00"}\n', b"\xff\n"])
def test_what_is_no_checkpoint_is_not_opened(tmp_path: Path, line: bytes) -> None:
    Signer.of(tmp_path)
    assert Seal(tmp_path / PUBLIC_KEY).opened(line) is None


def test_a_line_of_another_key_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    Signer.of(tmp_path)
    assert Seal(tmp_path / PUBLIC_KEY).opened(Signer.of(tmp_path / "other").sign(SIGNED)) is None


def test_what_a_newer_version_signed_is_opened(tmp_path: Path) -> None:
    class Newer(Checkpoint):
        place: str = "a vault"

    line = Signer.of(tmp_path).sign(Newer(**SIGNED.model_dump()))
    assert b"a vault" in line
    assert Seal(tmp_path / PUBLIC_KEY).opened(line) == SIGNED


def test_a_line_that_is_not_whole_was_never_signed(tmp_path: Path) -> None:
    line = Signer.of(tmp_path).sign(SIGNED)
    (tmp_path / "file").write_bytes(line + line[:40])
    assert list(lines(tmp_path / "file")) == [line]


@pytest.mark.parametrize("content", [b"", b"-----BEGIN nothing-----"])
def test_a_damaged_key_is_said_to_be_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PRIVATE_KEY).write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged: put a copy of it back"):
        Signer.of(tmp_path)
    with pytest.raises(CheckpointError, match="is no public key: name the right one with --key"):
        Seal(tmp_path / PRIVATE_KEY)


def test_a_key_that_is_not_there_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="name it with --key"):
        Seal(tmp_path / PUBLIC_KEY)


class TestStretch:
    def test_the_same_entries_have_the_same_digests(self, records: list[Record]) -> None:
        assert stretch(records).digest == stretch(records).digest
        assert stretch(records).jobs.keys() == {JOB}
        assert stretch(records).entries == 3

    def test_every_byte_and_the_order_count(self, records: list[Record]) -> None:
        first, second, third = records
        changed = Record(second.seq, second.subject, second.data.replace(b'"a"', b'"b"'))
        elsewhere = Record(second.seq, second.subject.replace("standard", "batch"), second.data)
        others = ([first, third], [first, third, second], [first, changed, third], [first, elsewhere, third])
        digests = {(stretch(r).digest, stretch(r).jobs[JOB]) for r in (records, *others)}
        assert len(digests) == 5

    def test_when_it_was_read_does_not_count(self, records: list[Record]) -> None:
        found = Stretch()
        for entry in entries(records):
            later = datetime(2027, 1, 1, tzinfo=UTC)
            found.take(Entry(entry.seq + 10, later, entry.source + " x", entry.data, entry.record))
        assert found.digest == stretch(records).digest
