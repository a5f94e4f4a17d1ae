"""A reader's place: how far it has read, and how it is doing with its connections."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from httpx_sse import ServerSentEvent

from actors.client.errors import Unintelligible
from actors.replies import Event, Gone, Outcome, event_of

T = TypeVar("T")


class Reading(ABC, Generic[T]):
    """What a reader is to say when it connects, and what it makes of what is sent.

    `id` names what was read last, once the server has said it. `quiet` counts the connections in a row that brought no
    event, `refused` those that were not even opened; `retry` is how many seconds the server wants between two. `ended`
    says that nothing more will come.
    """

    def __init__(self) -> None:
        self.id = ""
        self.quiet = 0
        self.refused = 0
        self.retry: float | None = None
        self.ended = False

    @property
    @abstractmethod
    def params(self) -> Mapping[str, str]:
        """What stands in the address of the next connection."""

    @property
    @abstractmethod
    def begun(self) -> bool:
        """Whether anything was read."""

    @abstractmethod
    def accept(self, sent: ServerSentEvent) -> T | None:
        """What was sent, unless it was read before. Raises what parsing does: ValueError, TypeError."""

    def over(self) -> Sequence[T]:
        """What there is to say when the server has nothing more."""
        return ()

    @property
    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self.id} if self.id else {}

    def connects(self) -> None:
        """Another connection is about to be opened."""
        self.quiet += 1
        self.refused += 1

    def take(self, sent: ServerSentEvent) -> T | None:
        """The same, and nothing for what has nothing in it (a heartbeat, a bare `retry:`). Raises Unintelligible."""
        if sent.retry is not None:
            self.retry = sent.retry / 1000
        if not sent.data:
            return None
        try:
            item = self.accept(sent)
        except (ValueError, TypeError) as error:
            raise Unintelligible(f"an event of kind {sent.event!r} is none that this version understands") from error
        if item is not None:
            self.id, self.quiet = sent.id or self.id, 0
        return item


class Place(Reading[Event]):
    """How far a reader of one job has read: through the event number `n`.

    `bound` says that the job is cancelled when the reader goes away.
    """

    def __init__(self, n: int, bound: bool = False) -> None:
        super().__init__()
        self.n = n
        self._bound = bound

    @property
    def params(self) -> dict[str, str]:
        after = {} if self.id or not self.n else {"after": str(self.n)}
        return after | ({"cancel_on_disconnect": "true"} if self._bound else {})

    @property
    def begun(self) -> bool:
        return self.n > 0

    def accept(self, sent: ServerSentEvent) -> Event | None:
        event = event_of(sent.event, sent.id, json.loads(sent.data))
        if event.n <= self.n:
            return None
        self.n, self.ended = event.n, isinstance(event, Outcome)
        return event


class Places(Reading[tuple[str, Event]]):
    """How far a reader of several jobs has read in each of them. It gets each event with the job that it is of."""

    def __init__(self, jobs: Sequence[str]) -> None:
        super().__init__()
        self._jobs = list(dict.fromkeys(jobs))
        self._read = dict.fromkeys(self._jobs, 0)
        self._open = set(self._jobs)

    @property
    def params(self) -> dict[str, str]:
        return {"jobs": ",".join(self._jobs)}

    @property
    def begun(self) -> bool:
        return any(self._read.values())

    def accept(self, sent: ServerSentEvent) -> tuple[str, Event] | None:
        data: dict[str, Any] = json.loads(sent.data)
        job, event = str(data.pop("job", "")), event_of(sent.event, sent.id, data)
        if job not in self._open or (event.n <= self._read[job] and not isinstance(event, Gone)):
            return None
        self._read[job] = event.n
        if isinstance(event, Outcome | Gone):
            self._open.discard(job)
            self.ended = not self._open
        return job, event

    def over(self) -> Sequence[tuple[str, Event]]:
        """Jobs that the server knows no more of, without their outcome."""
        return [(job, event_of(Gone.KIND, "", {})) for job in self._jobs if job in self._open]
