"""Pipelines for tests: real stages, and the scripted engine for a model."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from pydantic import Field, field_validator

from actors import Job, Message, NotAnswered, Pipeline, Retry, RetryableError, stage
from actors.contracts.conversation import Conversation, Reply
from actors.dialogue import reply
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


class Errand(Message):
    """Something to do in several pieces; it stumbles over its first attempts."""

    text: str
    stumbles: int = 0


class Parcel(Message):
    """What was fetched."""

    text: str
    pieces: list[str]


class Delivered(Message):
    """The answer."""

    text: str
    pieces: list[str]


walker = Scripted(says=SPEECH)
"""What `fetch` speaks with."""

fetched: Counter[str] = Counter()
"""How often a piece was worked for, in this process."""


@stage(uses=walker, retry=Retry(first=0.0))
async def fetch(errand: Errand, job: Job, engine: Engine) -> Parcel:
    async def work(key: str) -> str:
        fetched[key] += 1
        return f"{key} of {errand.text}"

    pieces = [await job.once(key, partial(work, key)) for key in ("one", "two")]
    if job.attempt <= errand.stumbles:
        raise RetryableError(f"stumbled on attempt {job.attempt}", delay=0.0)
    return Parcel(text=await job.speak(engine, errand.text, max_tokens=1_000), pieces=pieces)


@stage(retry=Retry(first=0.0))
async def deliver(parcel: Parcel, job: Job) -> Delivered:
    return Delivered(text=parcel.text, pieces=parcel.pieces)


errands = Pipeline("errands", fetch, deliver)


class Case(Message):
    """Something about which a person is asked twice; `patience` is for the first answer, in seconds."""

    text: str
    patience: float | None = None


class Built(Message):
    """When something was built."""

    year: int = Field(ge=1)

    @field_validator("year")
    @classmethod
    def _is_past(cls, year: int) -> int:
        if year > 2_000:
            raise ValueError("that is no mill")
        return year


class Advice(Message):
    """The answer. Without a year, nobody knew."""

    text: str
    year: int | None
    sure: bool


adviser = Scripted(says=SPEECH)
"""What `consult` speaks with."""

looked_up: Counter[str] = Counter()
"""How often something was looked up before a question, in this process."""


@stage(uses=adviser, retry=Retry(first=0.0))
async def consult(case: Case, job: Job, engine: Engine) -> Advice:
    async def look_up() -> str:
        looked_up[case.text] += 1
        return case.text

    found = await job.once("looked up", look_up)
    said = await job.speak(engine, case.text, max_tokens=1_000)
    try:
        year = (await job.ask(f"When was {found} built?", Built, timeout=case.patience)).year
    except NotAnswered:
        year = None
    return Advice(text=said, year=year, sure=await job.ask("Are you sure?", bool, key="sure"))


counsel = Pipeline("counsel", consult)

talker = Scripted(says=SPEECH)
"""What `talk` speaks with."""


@stage(uses=talker, retry=Retry(first=0.0))
async def talk(prepared: Prepared, job: Job, engine: Engine) -> Recital:
    return Recital(text=await job.speak(engine, prepared.text, max_tokens=1_000))


@talk.also
async def answer(conversation: Conversation, job: Job, engine: Engine) -> Reply:
    answered: Reply = await reply(conversation, job, engine)
    return answered


talks = Pipeline("talks", talk)
talks_back = Pipeline("chat", answer)

TALKS = ("tests.pipelines:talks", "tests.pipelines:talks_back")
"""Two pipelines on one stage, and so on one engine."""

PATHS = ("tests.pipelines:recital", "tests.pipelines:keeper")
"""As settings name them."""

EVERY_PATH = (*PATHS, "tests.pipelines:errands", "tests.pipelines:counsel")
"""Those of workers that a test makes itself; a Serve with all of these would take longer to start."""
