"""Forgetting: messages are taken out of the log for good."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable

from actors.journal.connection import ApiError, Link, Unanswered
from actors.journal.read import NO_MESSAGE
from actors.journal.topology import AUDIT, JOBS, NO_STREAM

NOT_FOUND = 10043
NOT_DELETED = 10057
GONE = ("no message found", "stream store EOF")
"""With which words a delete is refused when there is no such message; others are trouble."""

SOURCE = b"Nats-Stream-Source:"
"""Which message of which stream a sourced one was: `<stream> <sequence> …`. Source: nats-server, ADR-12."""

DELETES_AT_ONCE = 4
"""A delete is synced as an append is, and appends are not to wait behind many of them."""


async def forget(link: Link, sequences: Iterable[int]) -> None:
    """Take these messages out of the log; what is gone already is no matter. Raises Unanswered.

    One by one, and not by a purge: a purge of several messages makes the server count the backlog of every consumer
    anew, over all subjects (9 ms each with 20,000 jobs in the log, and growing with them: measured; a delete, 0.1 ms).
    """
    turns = asyncio.Semaphore(DELETES_AT_ONCE)

    async def delete(sequence: int) -> None:
        async with turns:
            try:
                await link.api(f"STREAM.MSG.DELETE.{JOBS}", {"seq": sequence, "no_erase": True})
            except ApiError as error:
                if not _was_gone(error):
                    raise Unanswered(f"the log does not forget: {error}") from error

    await asyncio.gather(*(delete(sequence) for sequence in sequences))


async def audited(link: Link) -> int | None:
    """The sequence up to which `AUDIT` has every fact; None where there is no `AUDIT`. Raises Unanswered."""
    try:
        found = (await link.api(f"STREAM.MSG.GET.{AUDIT}", {"last_by_subj": ">"}))["message"]
    except ApiError as error:
        if error.code == NO_STREAM:
            return None
        if error.code == NO_MESSAGE:
            return 0
        raise Unanswered(f"it is not known what is audited: {error}") from error
    for line in base64.b64decode(found.get("hdrs", "")).splitlines():
        if line.startswith(SOURCE):
            stream, sequence, *_ = line.removeprefix(SOURCE).split()
            return int(sequence) if stream.decode() == JOBS else 0
    return 0


def _was_gone(error: ApiError) -> bool:
    return error.code == NOT_FOUND or (error.code == NOT_DELETED and str(error).endswith(GONE))
