"""A reader's place: how far it has read, and how it is doing with its connections."""

from __future__ import annotations

import json
from dataclasses import dataclass

from httpx_sse import ServerSentEvent

from actors.client.errors import Unintelligible
from actors.replies import Event, event_of


@dataclass(slots=True)
class Place:
    """How far a reader has read: through the event number `n`, which `id` names once the server has said it.

    `bound` says that the job is cancelled when the reader goes away. `quiet` counts the connections in a row that
    brought no event, `refused` those that were not even opened; `retry` is how many seconds the server wants between
    two.
    """

    n: int
    bound: bool = False
    id: str = ""
    quiet: int = 0
    refused: int = 0
    retry: float | None = None

    @property
    def params(self) -> dict[str, str]:
        after = {} if self.id or not self.n else {"after": str(self.n)}
        return after | ({"cancel_on_disconnect": "true"} if self.bound else {})

    @property
    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self.id} if self.id else {}

    def connects(self) -> None:
        """Another connection is about to be opened."""
        self.quiet += 1
        self.refused += 1

    def take(self, sent: ServerSentEvent) -> Event | None:
        """The event, unless it was read before or there is none in it (a heartbeat, a bare `retry:`)."""
        if sent.retry is not None:
            self.retry = sent.retry / 1000
        if not sent.data:
            return None
        try:
            event = event_of(sent.event, sent.id, json.loads(sent.data))
        except (ValueError, TypeError) as error:
            raise Unintelligible(f"an event of kind {sent.event!r} is none that this version understands") from error
        if event.n <= self.n:
            return None
        self.n, self.id, self.quiet = event.n, sent.id, 0
        return event
