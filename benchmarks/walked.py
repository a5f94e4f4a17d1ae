"""A job's way through its pipeline, step by step, by the stamps that the writers of its events gave them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actors.contracts.generation import Usage
from actors.replies import Completed, Delta, Event, HandedOff, StepStarted


@dataclass(frozen=True, slots=True)
class Walked:
    """One step: for how long it waited for a worker, and was worked on, in seconds.

    A step that computes only says nothing until it is over, so its wait is a part of its `worked`.
    """

    name: str
    waited: float
    worked: float

    @property
    def took(self) -> float:
        return self.waited + self.worked


@dataclass(frozen=True, slots=True)
class Way:
    """A whole job: its steps, in order, when its answer began after it was handed to the first, and what it used."""

    steps: tuple[Walked, ...]
    first_token: float
    usage: Usage

    @property
    def took(self) -> float:
        return sum(step.took for step in self.steps)


def way_of(events: Sequence[Event]) -> Way:
    """What the events of a job that was answered say. A stage that is walked through again is another step."""
    steps: list[Walked] = []
    begun: HandedOff | None = None
    started, first_token, first = 0.0, 0.0, 0.0
    for event in events:
        now = event.at.timestamp() if event.at else 0.0
        match event:
            case StepStarted():
                started = started or now
            case Delta() if not first_token:
                first_token = now
            case HandedOff() | Completed():
                if begun and begun.at:
                    before = begun.at.timestamp()
                    again = sum(step.name.partition(" ")[0] == begun.stage for step in steps)
                    name = begun.stage + (f" ({again + 1})" if again else "")
                    steps.append(Walked(name, (started or before) - before, now - (started or before)))
                started = 0.0
                if isinstance(event, Completed):
                    return Way(tuple(steps), first_token - first, event.usage)
                begun, first = event, first or now
    raise ValueError("the job was not answered")
