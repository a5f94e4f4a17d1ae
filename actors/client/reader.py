"""The reader: it follows the events of a job, or of several, over as many connections as that takes."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar

import httpx
from httpx_sse import EventSource, SSEError

from actors.client.courier import Courier
from actors.client.errors import ClientError, Unavailable, Unintelligible, Unreachable
from actors.client.place import Reading

SSE = {"Accept": "text/event-stream", "Cache-Control": "no-store"}

T = TypeVar("T")

log = logging.getLogger(__name__)


async def read_on(courier: Courier, path: str, place: Reading[T]) -> AsyncGenerator[T, None]:
    """The events after this place, each exactly once and in order, to the end; see `AsyncHeadrace.events`."""
    while True:
        try:
            place.connects()
            async with courier.stream(path, params=place.params, headers=SSE | place.headers) as answer:
                place.refused = 0
                if answer.status_code == 204:
                    for left in place.over():
                        yield left
                    return
                async with aclosing(EventSource(answer).aiter_sse()) as stream:
                    async for sent in stream:
                        if (item := place.take(sent)) is not None:
                            yield item
                        if place.ended:
                            return
            trouble: ClientError | None = None
        except SSEError as error:
            raise Unintelligible(f"{courier.url} does not stream events; is this Headrace's URL?") from error
        except httpx.TransportError as error:
            trouble = Unreachable(str(courier.url), error)
        except Unavailable as error:
            trouble = error
        except Unintelligible as error:
            if not place.begun:
                raise
            trouble = error  # it was Headrace: a proxy that has just started does not know it yet
        await _resume(courier, path, place, trouble)


async def _resume(courier: Courier, path: str, place: Reading[Any], trouble: ClientError | None) -> None:
    """Wait before the next connection, or raise `trouble` when there have been enough."""
    asked = trouble.retry_after if isinstance(trouble, Unavailable) else None
    if trouble and courier.patience.gives_up(place.refused, asked=asked):
        raise trouble
    if trouble and place.refused <= 1:
        log.warning("stream cut, resuming", extra={"action": "stream.resume", "path": path, "why": str(trouble)})
    await courier.pause(max(place.quiet, 1), asked=asked or place.retry)
