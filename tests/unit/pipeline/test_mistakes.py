# mypy: disable-error-code="empty-body, no-untyped-def, name-defined, arg-type, misc, valid-type"
"""Every way to declare stages and pipelines wrongly, one row for each: what is wrong is named, and what to do."""

from __future__ import annotations

import ast
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from actors import Job, Message, Overflow, Pipeline, PipelineError, Replicas, Stage, StageError, stage
from actors.engines import Vllm
from actors.pipeline import Catalogue
from actors.pipeline import catalogue as catalogue_module
from actors.pipeline import pipeline as pipeline_module


class A(Message):
    text: str


class B(Message):
    text: str


class C(Message):
    text: str


class D(Message):
    text: str


class Homonym(Message):
    number: int

    @classmethod
    def wire_name(cls) -> str:
        return "B"


def of(name: str, takes: list[type[Message]], gives: list[type[Message]]) -> Stage:
    async def run(message: Any, job: Job) -> Any: ...

    return Stage(name, run, tuple(takes), tuple(gives))


def named(name: str) -> Any:
    def function(message: A, job: Job) -> B: ...

    function.__name__ = name
    return function


def work(message: A, job: Job) -> B: ...
def used(message: A, job: Job, engine: object) -> B: ...
def yields(message: A, job: Job) -> B:
    yield


def starred(message: A, *, job: Job) -> B: ...
def alone(message: A) -> B: ...
def unknown(message: A, job: Job) -> Missing: ...  # noqa: F821
def unreadable(message: A, job: Job) -> ast.Missing: ...
def jobless(message: A, job: str) -> B: ...
def bare(message: A, job: Job): ...
def nothing(message: A, job: Job) -> B | None: ...
def many(message: A, job: Job) -> list[B]: ...
def vague(message: Message, job: Job) -> B: ...
def plain(message: str, job: Job) -> B: ...


def one_to_three(name: str) -> list[Stage]:
    return [of("one", [A], [B]), of("two", [B], [C]), of(name, [B], [C])]


@dataclass(frozen=True)
class Row:
    """A mistake, and what has to be in its error: first what is wrong, by stage and type, then what to do."""

    declare: Callable[[], object]
    wrong: tuple[str, ...]
    advice: str


def a_stage(function: Any, **options: Any) -> Callable[[], object]:
    return lambda: stage(**options)(function)


def a_pipeline(*stages: Any, name: Any = "mill") -> Callable[[], object]:
    return lambda: Pipeline(name, *stages)


ROWS = {
    # stages
    "no parentheses": Row(lambda: stage(work), ("'work'",), "@stage()"),
    "no function": Row(a_stage("work"), ("'work'",), "write @stage() above a `def`"),
    "a topic of ours": Row(a_stage(named("later")), ("'later'",), "choose another name"),
    "no topic": Row(a_stage(named("Work")), ("'Work'",), "use small letters"),
    "uses a class": Row(a_stage(used, uses=Vllm), ("'used'", "uses=Vllm"), "uses=Vllm()"),
    "uses what cannot be opened": Row(a_stage(used, uses=5), ("'used'", "uses=5"), "give an async context manager"),
    "no GPUs": Row(a_stage(work, gpus=-1), ("'work'", "gpus"), "must be"),
    "an engine spread too far": Row(
        a_stage(used, uses=Vllm(tensor_parallel=2), gpus=1), ("'used'", "tensor_parallel=2"), "gpus=2"
    ),
    "overflow as a number": Row(a_stage(work, gpus=1, overflow=5), ("'work'", "overflow=5"), "Overflow(after=20)"),
    "overflow after nothing": Row(
        a_stage(work, gpus=1, overflow=Overflow(after=-1)), ("'work'", "after=-1"), "must be"
    ),
    "overflow without GPUs": Row(a_stage(work, overflow=Overflow(after=20)), ("'work'", "overflow"), "add gpus=1"),
    "no concurrency": Row(a_stage(work, concurrency=True), ("'work'", "concurrency=True"), "must be a whole number"),
    "no time": Row(a_stage(work, timeout="5"), ("'work'", "timeout='5'"), "must be more than 0"),
    "replicas that cannot be": Row(a_stage(work, replicas="2"), ("'work'", "replicas='2'"), "for example Replicas("),
    "Replicas that cannot be": Row(a_stage(work, replicas=Replicas(max=0)), ("'work'", "max=0"), "must be"),
    "tokens without an engine": Row(
        a_stage(work, replicas=Replicas(max=2, tokens_per_replica=9)),
        ("'work'", "tokens_per_replica"),
        "give it lag_per_replica",
    ),
    "retry as a number": Row(a_stage(work, retry=3), ("'work'", "retry is 3"), "Retry(attempts=3)"),
    "yields": Row(a_stage(yields), ("'yields'",), "speaks with job.speak or job.report"),
    "a keyword": Row(a_stage(starred), ("'starred'", "'job'"), "write it without a *"),
    "too few parameters": Row(a_stage(alone), ("'alone'", "1 parameters"), "it needs (message, job)"),
    "a type nobody knows": Row(a_stage(unknown), ("'unknown'", "'Missing'"), "declare messages at the top"),
    "no annotations": Row(a_stage(unreadable), ("'unreadable'", "Missing"), "correct them"),
    "no job": Row(a_stage(jobless), ("'jobless'", "'str'"), "must be annotated `Job`"),
    "no return type": Row(a_stage(bare), ("'bare'", "return value"), "name the types"),
    "perhaps nothing": Row(a_stage(nothing), ("'nothing'", "'NoneType'"), "`class Nothing(Message)`"),
    "a list": Row(a_stage(many), ("'many'", "list"), "wrap it in one"),
    "any message": Row(a_stage(vague), ("'vague'", "'Message'"), "name the types"),
    "no message": Row(a_stage(plain), ("'plain'", "'str'"), "derive it from Message"),
    "another function with yields": Row(
        lambda: stage()(work).also(yields), ("'work'",), "speaks with job.speak or job.report"
    ),
    # pipelines
    "no name": Row(a_pipeline(of("one", [A], [B]), name="A Mill"), ("'A Mill'",), "use small letters"),
    "no stages": Row(a_pipeline(), ("'mill'",), "give it some"),
    "a function": Row(a_pipeline(work), ("'mill'", "work"), "decorate the function with @stage()"),
    "a stage twice": Row(
        a_pipeline(of("one", [A], [B]), of("one", [B], [C])), ("'mill'", "'one' twice"), "`message: A | B`"
    ),
    "one name for two types": Row(
        a_pipeline(of("one", [A], [B]), of("two", [Homonym], [C])), ("'mill'", "'two'", "'B'"), "rename one"
    ),
    "two takers": Row(
        a_pipeline(*one_to_three("third_one")),
        ("'mill'", "B is taken by 'two' and by 'third_one'"),
        "`class BForThirdOne(B)`, and let 'one' return that",
    ),
    "two takers of the input": Row(
        a_pipeline(of("one", [A], [B]), of("two", [A], [B])),
        ("'mill'", "A is taken by 'one' and by 'two'"),
        "let 'one' give what 'two' takes",
    ),
    "no entry": Row(
        a_pipeline(of("one", [A], [B]), of("two", [B], [A, C])), ("A (stage 'one'), B (stage 'two')",), "add it"
    ),
    "two entries": Row(
        a_pipeline(of("one", [A], [B]), of("two", [C], [B])),
        ("A (stage 'one'), C (stage 'two')",),
        "let a stage give the others",
    ),
    "no answer": Row(a_pipeline(of("one", [A, B], [B])), ("B (stage 'one')",), "give a type that no stage takes"),
    "two answers": Row(
        a_pipeline(of("one", [A], [B, C])), ("B (stage 'one'), C (stage 'one')",), "let a stage take the others"
    ),
    "an island": Row(
        a_pipeline(of("one", [A], [B]), of("left", [C], [D]), of("right", [D], [C, B])),
        ("'left' is never reached", "gives C"),
        "let one give it",
    ),
    "a dead end": Row(
        a_pipeline(of("one", [A], [B, C]), of("round", [C, D], [D])),
        ("'round', which gives D", "the answer B"),
        "give that too",
    ),
    # pipelines beside each other
    "a pipeline twice": Row(
        lambda: Catalogue([Pipeline("mill", of("one", [A], [B])), Pipeline("mill", of("one", [A], [B]))]),
        ("'mill'",),
        "rename one of them",
    ),
    "a topic twice": Row(
        lambda: Catalogue([Pipeline("mill", of("one", [A], [B])), Pipeline("shop", of("one", [A], [C]))]),
        ("two stages are called 'one'",),
        "(one_2, where it is a new version)",
    ),
}


def error_of(row: Row) -> BaseException:
    with pytest.raises((StageError, PipelineError)) as found:
        row.declare()
    return found.value


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_a_mistake_is_named_with_what_to_do(row: Row) -> None:
    said = str(error_of(row))
    for part in (*row.wrong, row.advice):
        assert part in said, said
    assert "\n" not in said


def test_there_is_a_row_for_every_mistake_that_is_looked_for() -> None:
    checked = [Path(str(module.__file__)) for module in (pipeline_module, catalogue_module)]
    checked.append(checked[0].with_name("stage.py"))
    raised = set()
    for row in ROWS.values():
        frame = traceback.extract_tb(error_of(row).__traceback__)[-1]
        raised.add((Path(frame.filename).name, frame.lineno))
    for path in checked:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise):
                lines = {(path.name, line) for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
                assert lines & raised, f"nothing here raises what stands in {path.name}, line {node.lineno}"


def test_two_functions_of_one_stage_may_take_the_same_type_in_pipelines_of_their_own() -> None:
    first = stage()(work)
    second = first.also(work)
    assert list(Catalogue([Pipeline("mill", first), Pipeline("shop", second)])) == ["mill", "shop"]
