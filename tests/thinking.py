"""A pipeline for tests: a stage that thinks and one that does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors import Job, Message, Pipeline, Retry, Stage, stage
from actors.engines import Engine, Scripted
from actors.engines.scripted import tokens_of

SPEECH = "The headrace feeds the wheel, and the wheel turns the stone."
TOKENS = len(tokens_of(SPEECH))
AT_ONCE = Retry(first=0.0)
LONG = " ".join(f"word{n}" for n in range(400))


class Question(Message):
    text: str = "what does the headrace do?"


class Draft(Message):
    text: str


class Answer(Message):
    text: str


async def write(question: Question, job: Job, engine: Engine) -> Draft:
    return Draft(text=await job.speak(engine, question.text, max_tokens=1_000))


async def polish(draft: Draft, job: Job) -> Answer:
    return Answer(text=draft.text.upper())


def analysis(
    engine: Engine | None = None,
    *,
    writes: Callable[..., Any] = write,
    polishes: Callable[..., Any] = polish,
    retry: Retry = AT_ONCE,
    **options: Any,
) -> tuple[Pipeline, Stage, Stage]:
    """A pipeline of a stage that thinks and one that does not, whatever their functions are called."""
    writes.__name__, polishes.__name__ = "write", "polish"
    writing = stage(uses=engine or Scripted(says=SPEECH), retry=retry, **options)(writes)
    polishing = stage(retry=retry, **options)(polishes)
    return Pipeline("analysis", writing, polishing), writing, polishing
