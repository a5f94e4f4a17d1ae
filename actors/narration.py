"""A job told while it happens: this is what a terminal shows of its events and its text."""

from __future__ import annotations

import json
import os.path
import unicodedata
from collections.abc import AsyncIterable, Mapping
from datetime import datetime
from io import UnsupportedOperation
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from actors.contracts.generation import Usage
from actors.replies import (
    CancelRequested,
    Completed,
    Delta,
    Event,
    Gap,
    HandedOff,
    InputRequired,
    Outcome,
    Progress,
    Reset,
    StepFailed,
    StepPart,
    StepReleased,
    StepStarted,
)


class Narration:
    """Tells a job's events: generated text goes to `text` as it comes, a line for all else to `notes`; None drops it.

    A job that completes without having said anything has its answer written to `text`. Notes are dim on a terminal and
    plain elsewhere. Nothing that a model says can move a terminal's cursor; into a pipe its text goes unchanged.
    """

    def __init__(self, *, text: TextIO | None, notes: TextIO | None) -> None:
        self._text = text
        self._notes = Console(file=notes, highlight=False, markup=False) if notes else None
        self._shared = text is not None and notes is not None and _same_place(text, notes)
        self._stage = ""
        self._said = False
        self._within_line = False

    async def tell(self, events: AsyncIterable[Event]) -> Outcome | None:
        """Tell all of them. Returns the outcome; None when they end without one."""
        async for event in events:
            self.say(event)
            if isinstance(event, Outcome):
                return event
        return None

    def say(self, event: Event) -> None:
        """Tell one event."""
        match event:
            case Delta():
                self._speak(event)
                return
            case HandedOff() | StepStarted() | InputRequired() | Progress():
                self._stage = event.stage
            case Completed(answer=answer) if not self._said:
                self._write(answer_text(answer))
        if isinstance(event, Outcome | Reset):
            self._end_line()
        self._note(event.at, line(event, self._stage))

    def _speak(self, delta: Delta) -> None:
        if delta.from_ == 0:
            self._end_line()
        self._write(delta.text)
        self._said = True

    def _write(self, text: str) -> None:
        if self._text is None or not text:
            return
        shown = visible(text) if self._text.isatty() else text
        self._text.write(shown)
        self._text.flush()
        self._within_line = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._within_line:
            self._write("\n")

    def _note(self, at: datetime | None, said: str) -> None:
        if self._notes is None:
            return
        # Where both go to one place, a note must not begin within a line of text; elsewhere the text stays whole.
        margin = "\n" if self._shared and self._within_line else ""
        shown = visible(" ".join(said.split()))
        self._notes.print(Text(f"{margin}{clock(at)}  {shown}", style="dim"), soft_wrap=True)
        self._within_line = self._within_line and not self._shared


def line(event: Event, stage: str = "") -> str:
    """What happened, in one line; `stage` is where the job is, for the events that do not say it."""
    where = getattr(event, "stage", None) or stage or "the step"
    match event:
        case HandedOff(question=int(number), timed_out=timed_out):
            return f"{where}: {'nobody answered' if timed_out else 'has an answer to'} question {number}"
        case HandedOff(start_at=datetime() as start):
            return f"{where}: has its {event.type}, and starts at {start.astimezone():%Y-%m-%d %H:%M:%S}"
        case HandedOff():
            return f"{where}: has its {event.type}"
        case StepStarted():
            gone_on = f", going on after {event.from_} tokens" if event.from_ else ""
            return f"{where}: started by {event.worker}, attempt {event.attempt}{gone_on}"
        case StepFailed():
            again = f"; next try not before {clock(event.retry_at)}" if event.retry_at else ""
            return f"{where}: failed with {event.error}{again}"
        case StepReleased():
            return f"{where}: handed back unfinished{_because(event.reason)}"
        case StepPart():
            return f"{where}: stored {event.key or 'a piece'}"
        case InputRequired():
            until = f", until {event.until.astimezone():%Y-%m-%d %H:%M:%S}" if event.until else ""
            return f"{where}: asks question {event.n}{until}: {event.question}"
        case CancelRequested():
            return f"cancel requested{_because(event.reason)}"
        case Progress():
            return f"{where}: {event.message}{_share(event)}"
        case Gap():
            return f"events {event.from_} to {event.to} are no longer kept"
        case Reset():
            return f"{where}: starts over; what it has said so far is void"
        case Outcome():
            return ending(event)
    return event.kind


def ending(outcome: Outcome) -> str:
    """How a job ended, in one line."""
    stage, why = getattr(outcome, "stage", None), getattr(outcome, "reason", None)
    error = getattr(outcome, "error", None)
    where = f" in {stage}" if stage else ""
    used = f" ({spent(outcome.usage)})" if outcome.usage != Usage() else ""
    return outcome.kind.replace("_", " ") + where + _because(why) + (f": {error}" if error else "") + used


def spent(usage: Usage) -> str:
    """The tokens of a job."""
    wasted = f", {usage.wasted_tokens} wasted" if usage.wasted_tokens else ""
    return f"{usage.prompt_tokens} prompt tokens, {usage.output_tokens} output tokens{wasted}"


def answer_text(answer: Mapping[str, Any]) -> str:
    """An answer to read: its `text` where it has no other field, else all of it as JSON. Ends in a newline."""
    if set(answer) == {"text"} and isinstance(answer["text"], str):
        return answer["text"].rstrip("\n") + "\n"
    return json.dumps(answer, indent=2, ensure_ascii=False) + "\n"


def visible(text: str) -> str:
    """The text without what a terminal would obey: control characters, but for line ends and tabs."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


def clock(at: datetime | None) -> str:
    """The time of day here, as wide when there is none."""
    return f"{at.astimezone():%H:%M:%S}" if at else "--:--:--"


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _share(progress: Progress) -> str:
    if progress.done is None:
        return ""
    return f" {progress.done} of {progress.total}" if progress.total is not None else f" ({progress.done})"


def _same_place(text: TextIO, notes: TextIO) -> bool:
    try:
        return os.path.sameopenfile(text.fileno(), notes.fileno())
    except (UnsupportedOperation, OSError, ValueError):
        return text is notes
