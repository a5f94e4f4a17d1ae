"""The errors that stages raise on purpose, or that a start ends with, and an error as the log keeps it."""

from __future__ import annotations

import traceback

from pydantic import BaseModel, ConfigDict

MAX_MESSAGE = 4_000
MAX_TRACE = 8_000


class HeadraceError(Exception):
    """The base of every error of ours. The class says what happens next; the message says what to do."""


class CannotStart(HeadraceError):
    """Something that a start needs is not there; the message says what to do."""


class TerminalError(HeadraceError):
    """Raise it in a stage when trying again cannot help: the job's outcome is `failed` at once."""


class NotAnswered(TerminalError):
    """`job.ask` raises it when nobody has answered in time. A stage that does not catch it ends the job as `failed`."""


class RetryableError(HeadraceError):
    """Raise it in a stage to be tried again, after `delay` seconds if given, within the stage's budget."""

    def __init__(self, message: str, *, delay: float | None = None) -> None:
        super().__init__(message)
        self.delay = delay


class Failure(BaseModel):
    """An error as a value: its type's name, its message, and where it was raised (cut to a few kilobytes)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    message: str
    trace: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        told = traceback.TracebackException.from_exception(error)
        message, trace = _storable(str(told)), _storable("".join(told.format()))
        return cls(type=type(error).__name__, message=message[:MAX_MESSAGE], trace=trace[-MAX_TRACE:])


def _storable(text: str) -> str:
    """The text without what UTF-8 cannot hold, such as the lone surrogates in the name of a file."""
    return text.encode(errors="replace").decode()
