"""The points at which a worker may die, by name: a test has it die at each of them, at any pass."""

from __future__ import annotations

import enum
from collections.abc import Callable

from actors.contracts.envelope import Envelope
from actors.contracts.events import (
    HandOff,
    InputRequired,
    Outcome,
    StepFailed,
    StepPart,
    StepReleased,
    StepStarted,
    Text,
)


class CrashPoint(enum.Enum):
    """Where a worker is in its work on a delivery: before or after something that others can see."""

    AFTER_PULL = "after_pull"
    BEFORE_STARTED = "before_started"
    AFTER_STARTED = "after_started"
    BEFORE_TEXT = "before_text"
    AFTER_TEXT = "after_text"
    BEFORE_PART = "before_part"
    AFTER_PART = "after_part"
    BEFORE_ASKED = "before_asked"
    AFTER_ASKED = "after_asked"
    BEFORE_FAILED = "before_failed"
    AFTER_FAILED = "after_failed"
    BEFORE_RELEASED = "before_released"
    AFTER_RELEASED = "after_released"
    BEFORE_OUTPUT = "before_output"
    AFTER_OUTPUT = "after_output"
    BEFORE_ACK = "before_ack"
    AFTER_ACK = "after_ack"
    BEFORE_NAK = "before_nak"
    AFTER_NAK = "after_nak"


Reached = Callable[[CrashPoint], None]
"""Called each time a worker passes a point."""


def pass_by(point: CrashPoint) -> None:
    """Nothing happens there."""


def around(event: Envelope) -> tuple[CrashPoint, CrashPoint]:
    """The points before and after the append of an event."""
    match event:
        case StepStarted():
            return CrashPoint.BEFORE_STARTED, CrashPoint.AFTER_STARTED
        case Text():
            return CrashPoint.BEFORE_TEXT, CrashPoint.AFTER_TEXT
        case StepPart():
            return CrashPoint.BEFORE_PART, CrashPoint.AFTER_PART
        case InputRequired():
            return CrashPoint.BEFORE_ASKED, CrashPoint.AFTER_ASKED
        case StepFailed():
            return CrashPoint.BEFORE_FAILED, CrashPoint.AFTER_FAILED
        case StepReleased():
            return CrashPoint.BEFORE_RELEASED, CrashPoint.AFTER_RELEASED
        case HandOff() | Outcome():
            return CrashPoint.BEFORE_OUTPUT, CrashPoint.AFTER_OUTPUT
    raise AssertionError(f"no worker appends a {event.kind}")
