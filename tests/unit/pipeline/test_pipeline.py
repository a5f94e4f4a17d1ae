from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import create_model

from actors import Job, Message, Pipeline, PipelineError, Stage, stage


class A(Message):
    text: str


class B(Message):
    text: str


class C(Message):
    text: str


class D(Message):
    text: str


class E(Message):
    text: str


OTHER_B: type[Message] = create_model("B", __base__=Message, number=(int, ...))


async def _run(message: Any, job: Job) -> Any: ...


def a_stage(name: str, takes: list[type[Message]], gives: list[type[Message]]) -> Stage:
    return Stage(name, _run, tuple(takes), tuple(gives))


def test_a_message_goes_to_the_one_stage_that_takes_its_type() -> None:
    first, second = a_stage("first", [A], [B]), a_stage("second", [B], [C])
    pipeline = Pipeline("two", second, first)
    assert pipeline.input is A
    assert pipeline.entry is first
    assert pipeline.taker(B) is second
    assert pipeline.answer is C
    assert pipeline.taker(C) is None
    assert pipeline.messages == {"A": A, "B": B, "C": C}


def test_loops_and_branches_need_no_syntax() -> None:
    write, tool = a_stage("write", [A, C], [B, D]), a_stage("call_tools", [B], [C])
    pipeline = Pipeline("loop", write, tool, a_stage("polish", [D], [E]))
    assert (pipeline.input, pipeline.answer) == (A, E)
    assert pipeline.taker(C) is write
    assert pipeline.taker(B) is tool


def test_a_stage_may_hand_over_to_itself_and_may_answer() -> None:
    pipeline = Pipeline("again", a_stage("think", [A, B], [B, C]))
    assert (pipeline.input, pipeline.answer) == (A, C)


def test_several_stages_may_give_the_answer() -> None:
    pipeline = Pipeline("either", a_stage("sort", [A], [B, D]), a_stage("slow", [B], [D]))
    assert pipeline.answer is D


def test_a_stage_may_stand_in_several_pipelines() -> None:
    shared = a_stage("shared", [A], [B])
    assert Pipeline("one", shared).entry is Pipeline("two", shared, a_stage("more", [B], [C])).entry


WRONG: dict[str, tuple[list[Stage], list[str]]] = {
    "no stages": ([], ["no stages"]),
    "a stage twice": ([a_stage("s", [A], [B]), a_stage("s", [B], [C])], ["'s' twice"]),
    "two takers": (
        [a_stage("one", [A], [B]), a_stage("two", [B], [C]), a_stage("three", [B], [D])],
        ["B is taken by 'two' and by 'three'"],
    ),
    "one wire name, two types": ([a_stage("one", [A], [B]), a_stage("two", [OTHER_B], [C])], ["'B'", "rename"]),
    "no entry": ([a_stage("one", [A], [B]), a_stage("two", [B], [A, C])], ["no entry"]),
    "two entries": ([a_stage("one", [A], [B]), a_stage("two", [C], [B])], ["A (stage 'one')", "C (stage 'two')"]),
    "two entries of one stage": ([a_stage("one", [A, C], [B])], ["A (stage 'one')", "C (stage 'one')"]),
    "no answer": ([a_stage("one", [A, B], [B])], ["no answer"]),
    "two answers": ([a_stage("one", [A], [B, C])], ["B (stage 'one')", "C (stage 'one')"]),
    "an island": (
        [a_stage("one", [A], [B]), a_stage("left", [C], [D]), a_stage("right", [D], [C, B])],
        ["'left' is never reached", "gives C"],
    ),
    "a dead end": (
        [a_stage("one", [A], [B, C]), a_stage("round", [C, D], [D])],
        ["'round'", "no way leads to the answer B"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_pipeline_that_does_not_fit_together_names_stage_and_type(case: str) -> None:
    stages, said = WRONG[case]
    with pytest.raises(PipelineError, match="'wrong'") as wrong:
        Pipeline("wrong", *stages)
    for part in said:
        assert part in str(wrong.value)


@pytest.mark.parametrize("name", ["", "Wrong", "-x", "a.b", "a b", "a" * 64, "größe", "x\n", 5, None])
def test_a_pipeline_has_a_name_that_fits_a_path(name: Any) -> None:
    with pytest.raises(PipelineError, match="small letters"):
        Pipeline(name, a_stage("one", [A], [B]))


def test_a_pipeline_without_a_name_says_where_it_goes() -> None:
    with pytest.raises(PipelineError, match="called Stage"):
        Pipeline(a_stage("one", [A], [B]), a_stage("two", [B], [C]))  # type: ignore[arg-type]


def test_an_undecorated_function_is_no_stage() -> None:
    with pytest.raises(PipelineError, match=r"_run.*@stage\(\)"):
        Pipeline("wrong", _run)  # type: ignore[arg-type]


VERSION = """
from tests.unit.pipeline.test_pipeline import *
print(Pipeline("two", a_stage("first", [A], [B]), a_stage("second", [B], [C])).version)
"""


def test_a_version_is_the_same_in_every_process() -> None:
    here = Pipeline("two", a_stage("first", [A], [B]), a_stage("second", [B], [C])).version
    there = subprocess.run([sys.executable, "-c", VERSION], capture_output=True, text=True, check=True, timeout=30)
    assert here == there.stdout.strip()
    assert len(here) == 12
    assert int(here, 16) >= 0


def test_a_version_is_of_stages_routing_and_schemas_alone() -> None:
    base = Pipeline("p", a_stage("first", [A], [B]), a_stage("second", [B], [C]))
    sized = Stage("first", _run, (A,), (B,), gpus=1, concurrency=64)
    assert Pipeline("renamed", sized, a_stage("second", [B], [C])).version == base.version
    changed = [
        Pipeline("p", a_stage("initial", [A], [B]), a_stage("second", [B], [C])),
        Pipeline("p", a_stage("first", [A], [B, C]), a_stage("second", [B], [C])),
        Pipeline("p", a_stage("first", [A], [OTHER_B]), a_stage("second", [OTHER_B], [C])),
        Pipeline("p", a_stage("first", [A], [B])),
    ]
    assert len({base.version, *(p.version for p in changed)}) == 5


def test_importing_actors_loads_no_foreign_world() -> None:
    code = "import actors, sys; print([m for m in ('ray', 'nats', 'vllm', 'torch') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert found.stdout.strip() == "[]"


@stage()
async def shout(question: A, job: Job) -> B:
    return B(text=question.text.upper())


@stage()
def sign(draft: B, job: Job) -> C:
    return C(text=f"{draft.text}!")


def test_fifteen_lines_make_a_pipeline() -> None:
    pipeline = Pipeline("shouting", shout, sign)
    assert repr(pipeline) == "Pipeline('shouting', shout, sign)"
    assert (pipeline.input, pipeline.answer) == (A, C)
