"""The notary: it signs checkpoints of the audit log, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from actors.audit.checkpoint import (
    CHECKPOINTS,
    PUBLIC_KEY,
    Checkpoint,
    CheckpointError,
    Seal,
    Signer,
    Stretch,
    line_digest,
    lines,
)
from actors.journal.connection import ApiError, Unanswered
from actors.journal.journal import Journal
from actors.journal.trail import Hole, Span, Trail

log = logging.getLogger(__name__)

LOCK = "lock"
MOST_ENTRIES = 5_000
"""The most entries that one checkpoint covers."""


SHORT_OF_ROOM = (
    "the audit log is full, or nearly: then it takes nothing more, and nothing that it lacks is forgotten elsewhere; "
    "raise HEADRACE_AUDIT_MAX_BYTES"
)
STALLED = "the audit log does not go on just now; it goes on where it stopped, and nothing that it lacks is forgotten"


@dataclass(frozen=True, slots=True)
class _End:
    """Where the checkpoints end that there are."""

    last: int = 0
    total: int = 0
    prev: str = ""


class Notary:
    """Appends to the checkpoints in a folder what the audit log has gained since the last one.

    One at a time does it per folder; another that comes meanwhile leaves it to the first. What a checkpoint says is as
    the log was read then: a change before that is for the chains of the jobs to show.
    """

    def __init__(self, folder: Path, *, every: float = 60.0) -> None:
        self._folder = folder
        self._every = every
        self._is_short = False
        self._known: tuple[int, _End] = (0, _End())

    async def run(self, journal: Journal) -> None:
        """Look every so many seconds, until cancelled; what goes wrong is told, and tried again."""
        trail = Trail(journal.replays)
        while True:
            try:
                span = await trail.span()
                self._alarm(span)
                await self.round(trail, span)
            except (Unanswered, ApiError) as error:
                log.info("no checkpoint this time", extra={"action": "checkpoint_retry", "reason": str(error)})
            except CheckpointError as error:
                log.error("cannot keep checkpoints", extra={"action": "checkpoint_failed", "reason": str(error)})
            await asyncio.sleep(self._every)

    async def round(self, trail: Trail, span: Span) -> int:
        """Sign what is new; how many checkpoints that made. Raises Unanswered or CheckpointError."""
        made = 0
        with self._lock() as mine:
            if not mine:
                return 0
            signer, end = await asyncio.to_thread(self._begin)
            if end.last > span.last:
                fields = {"action": "audit_truncated", "signed": end.last, "last": span.last}
                log.error("the audit log ends before its last checkpoint", extra=fields)
            while end.last < span.last:
                checkpoint = await self._stretch(trail, max(end.last, span.first - 1), span.last, end)
                end = await asyncio.to_thread(self._append, signer.sign(checkpoint), checkpoint)
                made += 1
        return made

    async def _stretch(self, trail: Trail, after: int, upto: int, end: _End) -> Checkpoint:
        stretch, now = Stretch(), datetime.now(UTC)
        last, since = min(upto, after + MOST_ENTRIES), None
        async for found in trail.read(after, last):
            if isinstance(found, Hole):
                fields = {"action": "audit_hole", "first": found.first, "last": found.last}
                log.error("entries of the audit log are gone", extra=fields)
            else:
                since = since or found.stored_at
                stretch.take(found)
        return Checkpoint(
            at=now,
            first=after + 1,
            last=last,
            entries=stretch.entries,
            total=end.total + stretch.entries,
            since=since or now,
            digest=stretch.digest,
            jobs=stretch.jobs,
            prev=end.prev,
        )

    def _alarm(self, span: Span) -> None:
        """Say once that there is no room, and again only after it was well in between."""
        is_short = span.is_full or bool(span.trouble)
        if is_short and not self._is_short:
            fields = {"action": "audit_short_of_room", "lag": span.lag, "bytes": span.bytes, "reason": span.trouble}
            log.error(SHORT_OF_ROOM if span.is_full else STALLED, extra=fields)
        self._is_short = is_short

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise CheckpointError(
                f"cannot keep checkpoints in {self._folder} ({error.strerror}): allow it, or set HEADRACE_CHECKPOINTS"
            ) from error
        try:
            yield _is_taken(file)
        finally:
            os.close(file)

    def _begin(self) -> tuple[Signer, _End]:
        """The key, and where the file ends; it is read again only when somebody else wrote to it."""
        signer, path = Signer.of(self._folder), self._folder / CHECKPOINTS
        size = path.stat().st_size if path.exists() else 0
        if size != self._known[0]:
            last = next(iter(deque(lines(path), maxlen=1)), b"") if size else b""
            self._known = size, self._end_of(last) if last else _End()
        return signer, self._known[1]

    def _end_of(self, line: bytes) -> _End:
        checkpoint = Seal(self._folder / PUBLIC_KEY).opened(line)
        if checkpoint is None:
            raise CheckpointError(
                f"the end of {self._folder / CHECKPOINTS} is not what this key signed: look with `headrace audit "
                "verify`, then move that file away"
            )
        return _End(checkpoint.last, checkpoint.total, line_digest(line))

    def _append(self, line: bytes, checkpoint: Checkpoint) -> _End:
        path = self._folder / CHECKPOINTS
        try:
            with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
                _cut_torn_line(file.fileno())
                file.seek(0, os.SEEK_END)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
        except OSError as error:
            raise CheckpointError(f"cannot write {path} ({error.strerror}): make room") from error
        end = _End(checkpoint.last, checkpoint.total, line_digest(line))
        self._known = size, end
        return end


def _is_taken(file: int) -> bool:
    """Whether the lock is ours now."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _cut_torn_line(file: int) -> None:
    """Remove what a power cut left half written at the end."""
    size = end = os.fstat(file).st_size
    while end and (block := os.pread(file, min(end, 1 << 16), max(0, end - (1 << 16)))):
        if (newline := block.rfind(b"\n")) >= 0:
            end = end - len(block) + newline + 1
            break
        end -= len(block)
    if end != size:
        os.ftruncate(file, end)
