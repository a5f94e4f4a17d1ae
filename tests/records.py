"""A job's records as the log would hold them, without a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from actors.contracts.chain import digest
from actors.contracts.envelope import Envelope, Fact
from actors.contracts.errors import Failure
from actors.contracts.events import (
    Delta,
    HandOff,
    InputRequired,
    Origin,
    Record,
    StepFailed,
    StepReleased,
    StepStarted,
    Text,
    Told,
    place,
)
from actors.contracts.messages import Packed
from actors.contracts.subjects import LOCAL, Subject, job_id

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
JOB = job_id(LOCAL, "a job of the tests")
ORIGIN = Origin(
    pipeline="analysis",
    version="0123456789ab",
    fingerprint="f" * 64,
    created=START,
    deadline=START + timedelta(hours=1),
)
BROKEN = Failure(type="RuntimeError", message="it broke")


class Log:
    """Grows by one event at a time: a second apart, and with sequences that other jobs' messages leave gaps in."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._prev = ""

    def add(self, kind: type[Envelope], **fields: Any) -> Record:
        """The next event; what is not said about it is filled in."""
        n = len(self.records) + 1
        stamp: dict[str, Any] = {"n": n, "by": "test/log", "at": START + timedelta(seconds=n)}
        if issubclass(kind, Fact):
            stamp["prev"] = self._prev
        event = kind(**{**stamp, **fields})
        first, topic = place(event)
        record = Record(3 * n, str(Subject(first, topic, "standard", LOCAL, JOB)), event.encode(), event.at)
        if not issubclass(kind, Text):
            self._prev = digest(record.data)
        self.records.append(record)
        return record

    def hand_off(self, stage: str = "write", **fields: Any) -> Record:
        message = Packed(type="Note", body={"text": stage})
        return self.add(HandOff, **{"stage": stage, "origin": ORIGIN, "message": message, **fields})

    def start(self, claim: str = "a", **fields: Any) -> Record:
        given = {"stage": "write", "attempt": 1, "claim": claim, "worker": f"worker-{claim}", "ack": "$JS.ACK.x"}
        return self.add(StepStarted, **{**given, **fields})

    def fail(self, claim: str = "a", *, retry_in: float = 0.0) -> Record:
        retry_at = START + timedelta(seconds=len(self.records) + 1 + retry_in)
        return self.add(StepFailed, claim=claim, error=BROKEN, retry_at=retry_at)

    def release(self, claim: str = "a") -> Record:
        return self.add(StepReleased, claim=claim, reason="the worker is stopping")

    def ask(self, claim: str = "a", key: str = "year", **fields: Any) -> Record:
        given = {"stage": "write", "claim": claim, "key": key, "question": "Which year?"}
        return self.add(InputRequired, **{**given, "expects": {"type": "integer"}, **fields})

    def tell(self, question: Record, answer: Any = 1850, *, timed_out: bool = False, **fields: Any) -> Record:
        """Give the step out again that asked this."""
        asked = question.event
        assert isinstance(asked, InputRequired)
        told = Told(question=asked.n, key=asked.key, answer=answer, timed_out=timed_out)
        return self.hand_off(**{"of": 1, "told": told, **fields})

    def say(self, text: str, tokens: tuple[int, ...], at: int, **fields: Any) -> Record:
        return self.add(Delta, **{"stage": "write", "text": text, "tokens": tokens, "from_": at, **fields})
