"""Pipelines for tests: real stages, and the scripted engine for a model."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from actors import Job, Message, Pipeline, stage
from actors.engines import Engine, Scripted

SPEECH = "The headrace feeds the wheel, and the wheel turns the stone."

reciter = Scripted(says=SPEECH)
"""What `recite` speaks with; a test may give it another text, a gate, or cues."""


class Wish(Message):
    """What is to be recited."""

    text: str = Field(min_length=1)
    times: int = Field(default=1, ge=1)


class Prepared(Message):
    """A wish that was looked at."""

    text: str


class Recital(Message):
    """What was said."""

    text: str


class Applause(Message):
    """The answer."""

    text: str
    words: int


@stage()
async def prepare(wish: Wish, job: Job) -> Prepared:
    await job.report("reading the wish", done=1, total=1)
    return Prepared(text=wish.text * wish.times)


@stage(uses=reciter, concurrency=16)
async def recite(prepared: Prepared, job: Job, engine: Engine) -> Recital:
    return Recital(text=await job.speak(engine, prepared.text, max_tokens=1_000))


@stage()
async def applaud(recital: Recital, job: Job) -> Applause:
    return Applause(text=recital.text, words=len(recital.text.split()))


recital = Pipeline("recital", prepare, recite, applaud)


class Anything(Message):
    """Takes whatever JSON there is."""

    data: Any
    secret: str = ""

    @field_validator("secret")
    @classmethod
    def _break(cls, value: str) -> str:
        if value:
            raise RuntimeError(f"a bug, while {value!r} was looked at")
        return value


class Kept(Message):
    """The answer: the same."""

    data: Any


@stage()
async def keep(anything: Anything, job: Job) -> Kept:
    return Kept(data=anything.data)


keeper = Pipeline("keeper", keep)

PATHS = ("tests.pipelines:recital", "tests.pipelines:keeper")
"""As settings name them."""
