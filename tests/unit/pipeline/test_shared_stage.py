"""A stage with a function for another pipeline: both share its topic, its replicas and its engine."""

from __future__ import annotations

import pytest

from actors import Job, Message, Pipeline, StageError, stage
from actors.dialogue import chat
from actors.engines import Scripted
from actors.inference import write
from actors.runtime.replica import load_pipelines
from actors.runtime.settings import Settings


class Question(Message):
    text: str


class Answer(Message):
    text: str


class Riddle(Message):
    text: str


@stage(uses=Scripted(), concurrency=3, gpus=1)
async def think(question: Question, job: Job, engine: Scripted) -> Answer:
    return Answer(text=question.text)


@think.also
async def guess(riddle: Riddle, job: Job, engine: Scripted) -> Answer:
    return Answer(text="a mill")


def test_it_has_the_name_the_compute_and_the_engine_of_its_stage_and_messages_of_its_own() -> None:
    assert (guess.name, guess.concurrency, guess.gpus) == ("think", 3, 1)
    assert guess.uses is think.uses
    assert (guess.takes, guess.gives) == ((Riddle,), (Answer,))
    assert guess.whole is think.whole is think


def test_each_pipeline_is_routed_and_checked_by_its_own_function() -> None:
    thinking, guessing = Pipeline("thinking", think), Pipeline("guessing", guess)
    assert (thinking.input, guessing.input) == (Question, Riddle)
    assert thinking.version == Pipeline("thinking", think).version != guessing.version


def test_a_function_that_does_not_take_what_the_stage_uses_is_refused() -> None:
    async def forgets(riddle: Riddle, job: Job) -> Answer:
        return Answer(text="")

    with pytest.raises(StageError, match="'think' has 2 parameters; it needs"):
        think.also(forgets)


def test_the_default_installation_serves_chat_from_the_engine_of_analysis() -> None:
    pipelines = load_pipelines(Settings().pipelines)
    assert list(pipelines) == ["analysis", "chat"]
    assert chat.entry.whole is write
