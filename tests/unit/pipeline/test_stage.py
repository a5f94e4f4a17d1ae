# mypy: disable-error-code="empty-body, no-untyped-def, name-defined, valid-type, misc, arg-type, attr-defined"
from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Optional, cast

import pytest

from actors import Job, Message, Overflow, Replicas, Retry, StageError, stage
from actors.engines import Vllm
from actors.engines.scripted import Scripted
from actors.pipeline.job import StepLog


class Question(Message):
    text: str


class Draft(Message):
    text: str


class Answer(Message):
    text: str


class Plain:
    """No message."""


def a_job() -> Job:
    deadline = datetime(2026, 11, 24, tzinfo=UTC)
    return Job(id="a" * 26, pipeline="analysis", attempt=1, deadline=deadline, log=cast("StepLog", None))


@stage(gpus=1, cpus=2, concurrency=3, replicas=0, timeout=5, effects=True, retry=Retry(attempts=9))
async def write(prompt: Question | Draft, job: Job) -> Draft | Answer:
    return Draft(text=prompt.text.upper())


def test_a_stage_is_named_routed_and_sized_by_its_declaration() -> None:
    assert (write.name, write.takes, write.gives) == ("write", (Question, Draft), (Draft, Answer))
    assert (write.gpus, write.cpus, write.concurrency, write.replicas, write.timeout) == (1, 2, 3, 0, 5)
    assert write.effects
    assert write.retry == Retry(attempts=9)
    assert write.uses is None


def test_the_replicas_of_a_stage_are_a_number_or_follow_its_lag() -> None:
    @stage(replicas=Replicas(max=4, lag_per_replica=2))
    async def polish(draft: Draft, job: Job) -> Answer: ...

    assert polish.replicas == Replicas(min=0, max=4, lag_per_replica=2)


def test_the_overflow_of_a_stage_is_the_same_stage_on_cpus() -> None:
    @stage(gpus=1, accelerator="H100", overflow=Overflow(after=20, replicas=2, cpus=4, concurrency=3), concurrency=64)
    async def polish(draft: Draft, job: Job) -> Answer: ...

    there = polish.on_cpus
    assert there
    assert (there.name, there.run, there.takes) == ("polish", polish.run, polish.takes)
    assert (there.gpus, there.accelerator, there.cpus, there.concurrency, there.replicas) == (0, None, 4, 3, 2)
    assert write.on_cpus is None


@pytest.mark.parametrize(
    ("gpus", "engine"),
    [
        (0, Vllm()),
        (0.25, Vllm(gpu_memory_utilization=0.25)),
        (1, Vllm(gpu_memory_utilization=0.95)),
        (4, Vllm(tensor_parallel=4)),
    ],
)
def test_a_stage_whose_engine_fits_its_gpus_is_taken(gpus: float, engine: Vllm) -> None:
    @stage(gpus=gpus, uses=engine)
    async def think(question: Question, job: Job, engine: Vllm) -> Answer: ...

    assert think.gpus == gpus


async def test_a_stages_unit_test_is_a_call() -> None:
    assert await write(Question(text="mill"), a_job()) == Draft(text="MILL")


def test_a_plain_function_is_a_stage_too() -> None:
    @stage()
    def polish(draft: Draft, job: Job) -> Answer:
        return Answer(text=draft.text.strip())

    assert polish(Draft(text=" mill "), a_job()) == Answer(text="mill")
    assert not polish.is_async
    assert write.is_async


def test_a_stage_is_given_what_it_uses() -> None:
    engine = Scripted(says="Mill")

    @stage(uses=engine)
    async def speak(prompt: Question, job: Job, engine: Scripted) -> Answer:
        return Answer(text=cast("str", engine.says))

    assert speak.uses is engine
    assert asyncio.run(speak(Question(text=""), a_job(), engine)) == Answer(text="Mill")


def test_any_async_context_manager_can_be_used() -> None:
    @asynccontextmanager
    async def index() -> AsyncIterator[int]:
        yield 1

    @stage(uses=index())
    async def look(prompt: Question, job: Job, index: int) -> Answer: ...

    assert look.uses is not None


def no_annotation(prompt, job: Job) -> Answer: ...
def no_return(prompt: Question, job: Job): ...
def no_job(prompt: Question, job) -> Answer: ...
def wrong_job(prompt: Question, job: str) -> Answer: ...
def takes_plain(prompt: Plain, job: Job) -> Answer: ...
def takes_message(prompt: Message, job: Job) -> Answer: ...
def takes_any(prompt: Any, job: Job) -> Answer: ...
def gives_none(prompt: Question, job: Job) -> None: ...
def gives_maybe(prompt: Question, job: Job) -> Answer | None: ...
def gives_optional(prompt: Question, job: Job) -> Optional[Answer]: ...  # noqa: UP045
def gives_list(prompt: Question, job: Job) -> list[Answer]: ...
def gives_text(prompt: Question, job: Job) -> str: ...
def gives_unknown(prompt: Question, job: Job) -> Missing: ...  # noqa: F821
def gives_unknown_part(prompt: Question, job: Job) -> asyncio.Missing: ...
def gives_nonsense(prompt: Question, job: Job) -> "1 +": ...  # noqa: F722
def too_few(prompt: Question) -> Answer: ...
def too_many(prompt: Question, job: Job, engine: Scripted) -> Answer: ...
def keyword_only(prompt: Question, *, job: Job) -> Answer: ...
def any_number(prompt: Question, *job: Job) -> Answer: ...
def yields(prompt: Question, job: Job) -> Answer:
    yield


async def yields_later(prompt: Question, job: Job) -> Answer:
    yield


WRONG = {
    no_annotation: ["'prompt'", "no annotation"],
    no_return: ["return value", "no annotation"],
    no_job: ["`Job`", "missing"],
    wrong_job: ["`Job`", "'str'"],
    takes_plain: ["'prompt'", "'Plain'", "derive it from Message"],
    takes_message: ["'prompt'", "'Message'"],
    takes_any: ["'prompt'", "Any"],
    gives_none: ["return value", "NoneType"],
    gives_maybe: ["return value", "NoneType"],
    gives_optional: ["return value", "NoneType"],
    gives_list: ["return value", "list"],
    gives_text: ["return value", "'str'"],
    gives_unknown: ["'Missing'", "not known"],
    gives_unknown_part: ["Missing"],
    gives_nonsense: ["1 +"],
    too_few: ["1 parameters", "(message, job)"],
    too_many: ["3 parameters", "(message, job)", "declares no `uses`"],
    keyword_only: ["'job'", "position"],
    any_number: ["'job'", "position"],
    yields: ["yields"],
    yields_later: ["yields"],
}


@pytest.mark.parametrize("function", WRONG, ids=lambda function: function.__name__)
def test_a_stage_declared_wrongly_says_which_and_what_to_change(function: Any) -> None:
    with pytest.raises(StageError) as wrong:
        stage()(function)
    for part in [repr(function.__name__), *WRONG[function]]:
        assert part in str(wrong.value)


def named(name: str) -> Any:
    def function(prompt: Question, job: Job) -> Answer: ...

    function.__name__ = name
    return function


@pytest.mark.parametrize("name", ["step", "done", "dead", "ask", "later", "review"])
def test_a_stage_cannot_have_a_topic_of_headraces_own(name: str) -> None:
    with pytest.raises(StageError, match=f"'{name}'.*choose another name"):
        stage()(named(name))


@pytest.mark.parametrize("name", ["Write", "_write", "größe", "w" * 64, "<lambda>"])
def test_a_stage_whose_name_is_no_topic_is_refused(name: str) -> None:
    with pytest.raises(StageError, match="small letters"):
        stage()(named(name))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gpus": -1}, "gpus"),
        ({"cpus": -0.1}, "cpus"),
        ({"cpus": float("nan")}, "cpus"),
        ({"gpus": float("nan")}, "gpus"),
        ({"gpus": 1.5}, "a part of one GPU, as 0.5, or whole ones, as 2"),
        ({"accelerator": "H100"}, "add gpus=1, or leave it out"),
        ({"accelerator": " ", "gpus": 1}, "for example 'H100'"),
        ({"uses": Vllm(tensor_parallel=2)}, "give it gpus=2"),
        ({"uses": Vllm(tensor_parallel=2), "gpus": 1}, "give it gpus=2"),
        ({"uses": Vllm(tensor_parallel=2), "gpus": 0.5}, "give it gpus=2"),
        ({"uses": Vllm(), "gpus": 2}, "write Vllm(tensor_parallel=2), or gpus=1"),
        ({"uses": Vllm(gpu_memory_utilization=0.9), "gpus": 0.5}, "leave it out, or give at most 0.5"),
        ({"overflow": Overflow(after=20)}, "add gpus=1"),
        ({"overflow": 20, "gpus": 1}, "Overflow(after=20)"),
        ({"overflow": Overflow(after=0), "gpus": 1}, "after=0"),
        ({"overflow": Overflow(after=9, replicas=0), "gpus": 1}, "replicas=0"),
        ({"overflow": Overflow(after=9, concurrency=True), "gpus": 1}, "concurrency=True"),
        ({"overflow": Overflow(after=9, cpus=-1), "gpus": 1}, "cpus=-1"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1.5}, "concurrency"),
        ({"replicas": -1}, "replicas"),
        ({"replicas": True}, "replicas"),
        ({"replicas": "2"}, "Replicas(min=0, max=4, lag_per_replica=8)"),
        ({"replicas": Replicas(max=0)}, "max=0"),
        ({"replicas": Replicas(max=1.5)}, "max=1.5"),
        ({"replicas": Replicas(min=3, max=2)}, "from 0 to max=2"),
        ({"replicas": Replicas(min=-1, max=2)}, "min=-1"),
        ({"replicas": Replicas(max=2, lag_per_replica=0)}, "lag_per_replica=0"),
        ({"replicas": Replicas(max=2, tokens_per_replica=0)}, "tokens_per_replica=0"),
        ({"replicas": Replicas(max=2, tokens_per_replica=9)}, "it uses none; give it lag_per_replica"),
        ({"replicas": Replicas(max=2, max_wait=0)}, "max_wait=0"),
        ({"replicas": Replicas(max=2, down_after=float("nan"))}, "down_after=nan"),
        ({"replicas": Replicas(max=2, spare=-1)}, "spare=-1"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"retry": 3}, "retry"),
        ({"uses": Scripted}, "uses=Scripted"),
        ({"uses": "an engine"}, "uses='an engine'"),
        ({"uses": 5}, "uses=5"),
        ({"uses": Plain()}, "async context manager"),
    ],
)
def test_a_stage_with_numbers_or_resources_that_cannot_be_is_refused(wrong: dict[str, Any], said: str) -> None:
    async def write(prompt: Question, job: Job, resource: Any) -> Answer: ...

    async def polish(prompt: Question, job: Job) -> Answer: ...

    with pytest.raises(StageError, match=r"'(write|polish)'") as error:
        stage(**wrong)(write if "uses" in wrong else polish)
    assert said in str(error.value)


def test_a_decorator_without_parentheses_says_so() -> None:
    async def write(prompt: Question, job: Job) -> Answer: ...

    with pytest.raises(StageError, match=r"'write'.*@stage\(\)"):
        stage(write)


def test_what_is_no_function_is_refused() -> None:
    for thing in (functools.partial(write.run), 5, "write"):
        with pytest.raises(StageError, match="function"):
            stage()(cast("Any", thing))


def test_a_stage_that_uses_something_takes_it() -> None:
    async def write(prompt: Question, job: Job) -> Answer: ...

    with pytest.raises(StageError, match=r"'write' has 2 parameters.*resource.*declares `uses`"):
        stage(uses=Scripted())(write)


def test_messages_declared_inside_a_function_cannot_be_seen() -> None:
    class Inner(Message):
        pass

    async def write(prompt: Inner, job: Job) -> Answer: ...

    with pytest.raises(StageError, match=r"'write'.*'Inner' is not known.*top of a module"):
        stage()(write)


def test_a_stage_can_have_a_function_for_another_pipeline_that_shares_its_replicas() -> None:
    @stage(uses=Scripted(), concurrency=3, gpus=1)
    async def think(question: Question, job: Job, engine: Scripted) -> Answer:
        return Answer(text=question.text)

    @think.also
    async def think_again(answer: Answer, job: Job, engine: Scripted) -> Question:
        return Question(text=answer.text)

    assert (think_again.name, think_again.concurrency, think_again.gpus) == ("think", 3, 1)
    assert think_again.uses is think.uses
    assert (think_again.takes, think_again.gives) == ((Answer,), (Question,))
    assert think_again.whole is think.whole is think
    with pytest.raises(StageError, match="'think' has 2 parameters; it needs"):

        @think.also
        async def forgets(answer: Answer, job: Job) -> Question:
            return Question(text="")
