"""The history of a job: its log, read to where it ends now."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
from pydantic import ValidationError

from actors.client.courier import Courier
from actors.client.errors import ClientError, Unavailable, Unintelligible, Unreachable
from actors.replies import LogEntry


async def read_log(courier: Courier, path: str, after: int) -> AsyncGenerator[LogEntry, None]:
    """The entries after that sequence number, each once; an answer that breaks off is gone on with after its last."""
    failures = 0
    while True:
        asked: float | None = None
        trouble: ClientError
        try:
            async with courier.stream(path, params={"after": str(after)}, headers={}) as answer:
                async for line in answer.aiter_lines():
                    entry = _entry(line)
                    after, failures = entry.sequence, 0
                    yield entry
            return
        except httpx.TransportError as error:
            trouble = Unreachable(str(courier.url), error)
        except Unavailable as error:
            trouble, asked = error, error.retry_after
        failures += 1
        if courier.patience.gives_up(failures, asked=asked):
            raise trouble
        await courier.pause(failures, asked=asked)


def _entry(line: str) -> LogEntry:
    try:
        return LogEntry.model_validate_json(line)
    except ValidationError as error:
        raise Unintelligible("a line of a job's log is none that this version understands") from error
