"""The reader: it follows the events of a job, over as many connections as that takes."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx
from httpx_sse import EventSource, SSEError

from actors.client.courier import Courier
from actors.client.errors import ClientError, Unavailable, Unintelligible, Unreachable
from actors.client.place import Place
from actors.replies import Event, Outcome

SSE = {"Accept": "text/event-stream", "Cache-Control": "no-store"}

log = logging.getLogger(__name__)


async def read_on(courier: Courier, path: str, place: Place) -> AsyncGenerator[Event, None]:
    """The events after this place, each exactly once and in order, to the outcome; see `AsyncHeadrace.events`."""
    while True:
        try:
            place.connects()
            async with courier.stream(path, params=place.params, headers=SSE | place.headers) as answer:
                place.refused = 0
                if answer.status_code == 204:
                    return
                async with aclosing(EventSource(answer).aiter_sse()) as stream:
                    async for sent in stream:
                        event = place.take(sent)
                        if event is not None:
                            yield event
                        if isinstance(event, Outcome):
                            return
            trouble: ClientError | None = None
        except SSEError as error:
            raise Unintelligible(f"{courier.url} does not stream events; is this Headrace's URL?") from error
        except httpx.TransportError as error:
            trouble = Unreachable(str(courier.url), error)
        except Unavailable as error:
            trouble = error
        except Unintelligible as error:
            if not place.n:
                raise
            trouble = error  # it was Headrace: a proxy that has just started does not know it yet
        await _resume(courier, path, place, trouble)


async def _resume(courier: Courier, path: str, place: Place, trouble: ClientError | None) -> None:
    """Wait before the next connection, or raise `trouble` when there have been enough."""
    asked = trouble.retry_after if isinstance(trouble, Unavailable) else None
    if trouble and courier.patience.gives_up(place.refused, asked=asked):
        raise trouble
    if trouble and place.refused <= 1:
        log.warning("stream cut, resuming", extra={"action": "stream.resume", "path": path, "why": str(trouble)})
    await courier.pause(max(place.quiet, 1), asked=asked or place.retry)
