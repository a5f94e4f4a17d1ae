from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from actors import Job
from actors.contracts.generation import Prompt, Sampling, Speech
from actors.engines import Engine, Scripted
from actors.exchange import Call, Draft, Grounded, Passage, Result, ToolCalls, ToolResults
from actors.inference import TURNS, write

ASKED = Grounded(question="What is 7 times 45?", passages=[Passage(source="s", text="a mill")])
PRODUCT = Call(tool="calculator", arguments={"expression": "7 * 45"})
QUOTIENT = Call(tool="calculator", arguments={"expression": "45 / 7"})


@dataclass
class Log:
    """A step's log in memory; what is generated aloud is the prompt itself."""

    told: list[str] = field(default_factory=list)

    async def once(self, key: str, work: Callable[[], Awaitable[Any]]) -> Any:
        return await work()

    async def speak(self, engine: Any, prompt: Prompt, sampling: Sampling) -> Speech:
        return Speech(prompt[-1].content if isinstance(prompt, tuple) else prompt, "stop")

    async def report(self, message: str, done: int | None, total: int | None) -> None:
        self.told.append(message)


def engine_that_calls(*calls: Call, then: str = "answer") -> Scripted:
    written = {"calls": [call.model_dump() for call in calls], "then": then}
    return Scripted(says_structured=lambda asked: written)


async def written(prompt: Grounded | ToolResults, engine: Engine) -> tuple[ToolCalls | Draft, list[str]]:
    log = Log()
    job = Job(id="a" * 26, pipeline="analysis", attempt=1, deadline=datetime.now(UTC), log=log)  # type: ignore[arg-type]
    async with engine:
        return await write(prompt, job, engine), log.told


async def test_the_model_calls_several_tools_at_once_and_each_call_once() -> None:
    output, told = await written(ASKED, engine_that_calls(PRODUCT, QUOTIENT, PRODUCT))
    assert output == ToolCalls(grounded=ASKED, turn=1, calls=[PRODUCT, QUOTIENT])
    assert told == ["choosing tools"]


async def test_of_a_model_that_goes_on_for_ever_the_calls_that_are_whole_count() -> None:
    url = f"http://a.example/{'x' * 500}"
    page = Call(tool="http_get", arguments={"url": url})
    output, _ = await written(ASKED.model_copy(update={"question": f"Read {url}"}), engine_that_calls(page, page, page))
    assert isinstance(output, ToolCalls)
    assert output.calls == [page]


async def test_a_call_that_the_grammar_does_not_allow_is_none() -> None:
    unoffered = Call(tool="http_get", arguments={"url": "http://a.example/"})
    output, _ = await written(ASKED, engine_that_calls(unoffered, PRODUCT))
    assert isinstance(output, ToolCalls)
    assert output.calls == [PRODUCT]


async def test_a_question_that_no_tool_helps_with_is_answered_without_asking_the_model_which() -> None:
    asked = ASKED.model_copy(update={"question": "What is a mill?"})
    output, told = await written(asked, engine_that_calls())
    assert isinstance(output, Draft)
    assert told == []


async def test_search_is_offered_where_the_question_itself_found_nothing() -> None:
    searching = Call(tool="search", arguments={"query": "mill"})
    output, _ = await written(Grounded(question="What is a quern?", passages=[]), engine_that_calls(searching))
    assert isinstance(output, ToolCalls)
    assert output.calls == [searching]


def results(*, turn: int = 1, more: bool = False, failed: bool = False) -> ToolResults:
    made = [Result(call=PRODUCT, value="315", failed=failed)]
    return ToolResults(grounded=ASKED, turn=turn, more=more, results=made)


async def test_with_its_results_it_answers_unless_it_wants_more() -> None:
    output, told = await written(results(), engine_that_calls(QUOTIENT))
    assert isinstance(output, Draft)
    assert told == []
    output, _ = await written(results(more=True), engine_that_calls(QUOTIENT, then="call more"))
    assert isinstance(output, ToolCalls)
    assert (output.turn, output.more, output.calls) == (2, True, [QUOTIENT])
    assert output.results == results().results


async def test_a_call_that_was_made_is_not_made_again() -> None:
    output, _ = await written(results(more=True), engine_that_calls(PRODUCT))
    assert isinstance(output, Draft)


async def test_after_so_many_turns_it_answers_whatever_it_wants() -> None:
    output, told = await written(results(turn=TURNS, more=True), engine_that_calls(QUOTIENT, then="call more"))
    assert isinstance(output, Draft)
    assert told == []


async def test_the_answer_is_grounded_in_results_and_passages() -> None:
    output, _ = await written(results(), engine_that_calls())
    assert isinstance(output, Draft)
    assert "7 * 45 = 315\na mill" in output.text
    output, _ = await written(results(failed=True), engine_that_calls())
    assert isinstance(output, Draft)
    assert "calculator(7 * 45) failed: 315" in output.text


class Narrow(Scripted):
    @property
    def context(self) -> int:
        return 200


async def test_what_there_is_to_read_is_cut_to_what_the_model_can_take() -> None:
    many = ASKED.model_copy(update={"passages": [Passage(source="s", text="word " * 150) for _ in range(3)]})
    engine = Narrow()
    output, _ = await written(ToolResults(grounded=many, turn=1, results=[]), engine)
    assert isinstance(output, Draft)
    assert len(engine.encode(output.text)) <= 100
    assert output.text.endswith("What is 7 times 45?")
