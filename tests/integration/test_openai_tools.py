"""The stock `openai` client lets the model call functions, goes on after a response, and asks for JSON of a shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseFunctionToolCall
from pydantic import BaseModel

from actors.contracts.events import Completed, HandOff, StepPart
from actors.contracts.subjects import LOCAL
from actors.engines.scripted import Cue
from actors.journal import Journal
from tests.integration.test_openai import CHAT, MODEL, kinds, serving, text_of, until_done
from tests.nats_servers import Servers
from tests.pipelines import SPEECH, talker
from tests.serving import stored

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: dict[str, Any] = {"name": "weather", "description": "The weather in a city.", "parameters": SCHEMA}
TIME: dict[str, Any] = {"name": "time", "parameters": {**SCHEMA, "required": []}}
TOOLS: list[Any] = [{"type": "function", "strict": True, **one} for one in (WEATHER, TIME)]
CHAT_TOOLS: list[Any] = [{"type": "function", "function": one} for one in (WEATHER, TIME)]
ASKED = "How is the weather in Ulm and in Bonn?"
CALLS = [{"name": "weather", "arguments": {"city": city}} for city in ("Ulm", "Bonn")]


class Verdict(BaseModel):
    """What the model's answer has to be."""

    city: str
    is_warm: bool


@pytest.fixture(autouse=True)
def decides() -> Iterator[None]:
    """The engine calls for two cities at once, and no more once it knows; asked for a verdict, it gives one."""

    def decide(asked: str) -> dict[str, Any]:
        if "verdict" in asked:
            return {"city": "Ulm", "is_warm": True}
        return {"calls": CALLS if asked == ASKED else []}

    talker.says_structured = decide
    yield
    talker.says_structured = None


def called(response: Response) -> list[ResponseFunctionToolCall]:
    return [item for item in response.output if item.type == "function_call"]


async def log_of(journal: Journal, response: Response) -> list[Any]:
    return [r.event for r in await journal.reader.job(LOCAL, response.id.removeprefix("resp_"))]


async def test_a_chat_calls_functions_at_once_and_answers_with_what_they_gave(r1: Servers) -> None:
    async with serving(r1, "talk") as client:
        messages: list[Any] = [{"role": "user", "content": ASKED}]
        first = await client.chat.completions.create(model=MODEL, messages=messages, tools=CHAT_TOOLS)
        [choice] = first.choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        calls = choice.message.tool_calls or []
        assert [(c.function.name, json.loads(c.function.arguments)) for c in calls if c.type == "function"] == [
            ("weather", {"city": "Ulm"}),
            ("weather", {"city": "Bonn"}),
        ]
        given = [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in calls]
        messages += [choice.message, *given]
        second = await client.chat.completions.create(model=MODEL, messages=messages, tools=CHAT_TOOLS)
        assert (second.choices[0].finish_reason, second.choices[0].message.content) == ("stop", SPEECH)


async def test_a_streamed_chat_brings_its_calls_in_chunks(r1: Servers) -> None:
    async with serving(r1, "talk") as client:
        asked: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": ASKED}], "tools": CHAT_TOOLS}
        plain = await client.chat.completions.create(**asked)
        async with client.chat.completions.stream(**asked) as stream:
            streamed = await stream.get_final_completion()
        strip = {"parsed", "parsed_arguments"}
        assert [c.function.to_dict() for c in plain.choices[0].message.tool_calls or [] if c.type == "function"] == [
            {k: v for k, v in c.function.to_dict().items() if k not in strip}
            for c in streamed.choices[0].message.tool_calls or []
        ]
        assert streamed.choices[0].finish_reason == "tool_calls"
        async with client.chat.completions.stream(**CHAT, tools=CHAT_TOOLS) as stream:
            assert (await stream.get_final_completion()).choices[0].message.content == SPEECH


async def test_a_response_calls_functions_and_the_next_one_goes_on_after_it(r1: Servers, journal_r1: Journal) -> None:
    async with serving(r1, "talk") as client:
        first = await client.responses.create(model=MODEL, input=ASKED, tools=TOOLS, instructions="Be brief.")
        assert [(c.name, json.loads(c.arguments), c.status) for c in called(first)] == [
            ("weather", {"city": "Ulm"}, "completed"),
            ("weather", {"city": "Bonn"}, "completed"),
        ]
        assert (first.status, first.output_text, first.tool_choice) == ("completed", "", "auto")
        assert [tool.to_dict()["name"] for tool in first.tools] == ["weather", "time"]
        assert await client.responses.retrieve(first.id) == first

        outputs: list[Any] = [
            {"type": "function_call_output", "call_id": call.call_id, "output": f"{call.arguments}: rain"}
            for call in called(first)
        ]
        second = await client.responses.create(
            model=MODEL, previous_response_id=first.id, input=outputs, tools=TOOLS, instructions="Be kind."
        )
        assert (second.output_text, second.previous_response_id) == (SPEECH, first.id)
        handoff = (await log_of(journal_r1, second))[0]
        assert isinstance(handoff, HandOff)
        assert [(said["role"], said["content"]) for said in handoff.message.body["messages"]] == [
            ("system", "Be kind."),
            ("user", ASKED),
            ("assistant", json.dumps({"calls": CALLS})),
            ("user", 'weather gave: {"city": "Ulm"}: rain\nweather gave: {"city": "Bonn"}: rain'),
        ]
        third = await client.responses.create(model=MODEL, previous_response_id=second.id, input="Why?")
        said = (await log_of(journal_r1, third))[0].message.body["messages"]
        assert [one["role"] for one in said] == ["user", "assistant", "user", "assistant", "user"]
        assert [one["content"] for one in said[3:]] == [SPEECH, "Why?"]
        items: list[Any] = [item async for item in client.responses.input_items.list(third.id, order="asc", limit=2)]
        assert [(item.role, item.content[0].text) for item in items] == [(one["role"], one["content"]) for one in said]
        given = [item.id async for item in client.responses.input_items.list(third.id, after=items[3].id)]
        assert given == [items[at].id for at in (2, 1, 0)]
        for unfit in ({"limit": 0}, {"order": "up"}, {"after": "msg_of_another"}):
            with pytest.raises(openai.BadRequestError) as refused:
                await client.responses.input_items.list(third.id, **unfit)
            assert refused.value.param in unfit

        whole = [*[{"role": "user", "content": ASKED}], *(item.to_dict() for item in first.output), *outputs]
        at_once = await client.responses.create(model=MODEL, input=whole, tools=TOOLS)  # as it is done without a store
        assert at_once.output_text == SPEECH


async def test_the_events_of_calls_are_those_of_openai_and_are_resumed_after_each(
    r1: Servers, journal_r1: Journal
) -> None:
    async with serving(r1, "talk") as client:
        async with client.responses.stream(model=MODEL, input=ASKED, tools=TOOLS) as stream:
            final = await stream.get_final_response()
        assert [call.arguments for call in final.output if call.type == "function_call"] == [
            '{"city": "Ulm"}',
            '{"city": "Bonn"}',
        ]
        whole = [e async for e in await client.responses.retrieve(final.id, stream=True)]
        call = [
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
        ]
        assert kinds(whole) == ["created", "in_progress", *call, *call, "completed"]
        numbers = [e.sequence_number for e in whole]
        assert numbers == sorted(set(numbers))
        for at, number in enumerate(numbers):
            after = await client.responses.retrieve(final.id, stream=True, starting_after=number)
            assert [e async for e in after] == whole[at + 1 :]
        [decided] = [event for event in await log_of(journal_r1, final) if isinstance(event, StepPart)]
        assert numbers[2] == 16 * decided.n  # readers hear of the calls before there is an outcome


async def test_a_model_that_decides_to_answer_streams_its_text_as_ever(r1: Servers) -> None:
    async with serving(r1, "talk") as client:
        asked: dict[str, Any] = {"model": MODEL, "input": "Speak.", "tools": TOOLS}
        events = [e async for e in await client.responses.create(**asked, stream=True)]
        first = events[0]
        assert first.type == "response.created"
        plain = [e async for e in await client.responses.create(model=MODEL, input="Speak.", stream=True)]
        assert kinds(events) == kinds(plain)
        assert text_of(events) == SPEECH
        for at, event in enumerate(events):
            id, number = first.response.id, event.sequence_number
            after = await client.responses.retrieve(id, stream=True, starting_after=number)
            told = [e async for e in after]
            assert text_of(told) == text_of(events[at + 1 :])
            assert kinds(told)[-4:] == kinds(events[at + 1 :])[-4:]


async def test_a_choice_is_kept_to(r1: Servers, journal_r1: Journal) -> None:
    talker.says_structured = None  # it writes the least that the grammar allows
    async with serving(r1, "talk") as client:

        async def names(choice: Any, **more: Any) -> list[str]:
            asked: dict[str, Any] = {"model": MODEL, "input": ASKED, "tools": TOOLS, "tool_choice": choice}
            return [call.name for call in called(await client.responses.create(**asked, **more))]

        assert await names("auto") == []
        assert await names("none") == []
        assert await names("required") == ["weather"]
        assert await names({"type": "function", "name": "time"}) == ["time"]
        chosen: Any = {"type": "function", "function": {"name": "time"}}
        chat = await client.chat.completions.create(**CHAT, tools=CHAT_TOOLS, tool_choice=chosen)
        assert [c.function.name for c in chat.choices[0].message.tool_calls or [] if c.type == "function"] == ["time"]
        one = await client.responses.create(model=MODEL, input=ASKED, tools=TOOLS, parallel_tool_calls=False)
        assert one.parallel_tool_calls is False
        assert (await log_of(journal_r1, one))[0].message.body["most_calls"] == 1


async def test_a_response_that_is_gone_or_has_no_answer_is_not_gone_on_after(r1: Servers) -> None:
    async with serving(r1, "talk") as client:
        done = await client.responses.create(model=MODEL, input="Speak.")
        await client.responses.delete(done.id)
        for id in (done.id, "resp_1", f"resp_{'a' * 26}"):
            with pytest.raises(openai.NotFoundError) as refused:
                await client.responses.create(model=MODEL, input="Go on.", previous_response_id=id)
            assert (refused.value.code, refused.value.param) == ("response_not_found", "previous_response_id")
        talker.gate = asyncio.Event()
        try:
            runs = await client.responses.create(model=MODEL, input="Speak.", background=True)
            with pytest.raises(openai.ConflictError) as too_soon:
                await client.responses.create(model=MODEL, input="Go on.", previous_response_id=runs.id)
            assert too_soon.value.code == "not_ended"
            await client.responses.cancel(runs.id)
            await until_done(client, runs.id)
        finally:
            talker.gate = None
        with pytest.raises(openai.BadRequestError, match="has no answer: It was cancelled"):
            await client.responses.create(model=MODEL, input="Go on.", previous_response_id=runs.id)


async def test_an_answer_has_the_shape_that_it_was_asked_for(r1: Servers) -> None:
    async with serving(r1, "talk") as client:
        response = await client.responses.parse(model=MODEL, input="Your verdict?", text_format=Verdict)
        assert response.output_parsed == Verdict(city="Ulm", is_warm=True)
        assert response.text is not None
        assert response.text.format is not None
        assert response.text.format.type == "json_schema"
        asked: list[Any] = [{"role": "user", "content": "Your verdict?"}]
        chat = await client.chat.completions.parse(model=MODEL, messages=asked, response_format=Verdict)
        assert chat.choices[0].message.parsed == Verdict(city="Ulm", is_warm=True)
        events = [
            e
            async for e in await client.responses.create(
                model=MODEL, input="Your verdict?", text={"format": {"type": "json_object"}}, stream=True
            )
        ]
        assert json.loads(text_of(events)) == {"city": "Ulm", "is_warm": True}
        cut = await client.responses.create(
            model=MODEL, input="Your verdict?", text={"format": {"type": "json_object"}}, max_output_tokens=2
        )
        assert cut.status == "incomplete"
        cut = await client.responses.create(model=MODEL, input=ASKED, tools=TOOLS, max_output_tokens=2)
        assert (cut.status, called(cut)) == ("incomplete", [])


async def test_what_was_decided_is_not_decided_again_after_a_failure(r1: Servers, journal_r1: Journal) -> None:
    talker.cues = (Cue("fail", at=3, times=2),)
    try:
        async with serving(r1, "talk") as client:
            response = await client.responses.create(model=MODEL, input="Speak.", tools=TOOLS, max_output_tokens=100)
            assert response.output_text == SPEECH
            events = await log_of(journal_r1, response)
            assert [e.kind for e in events].count("step.failed") == 2
            assert [e.kind for e in events].count("step.part") == 1
            assert isinstance(events[-1], Completed)
    finally:
        talker.cues = ()


UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "web_search"}]}, "tools"),
    ({"tools": [TOOLS[0], TOOLS[0]]}, "tools"),
    ({"tools": [{**TOOLS[0], "name": "a b"}]}, "tools"),
    ({"tools": TOOLS * 65}, "tools"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "name": "other"}}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "always"}, "tool_choice"),
    ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "call_id"),
    ({"input": [{"type": "reasoning", "id": "r"}]}, "input"),
    ({"text": {"format": {"type": "grammar"}}}, "text"),
    ({"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "array"}}}}, "text"),
    ({"text": {"verbosity": "low"}}, "text"),
]


async def test_what_cannot_be_called_is_refused_by_name(r1: Servers, journal_r1: Journal) -> None:
    async with serving(r1) as client:
        for sent, param in UNFIT:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.post("/responses", body={"model": MODEL, "input": "go", **sent}, cast_to=object)
            assert refused.value.param == param, refused.value
        assert await stored(journal_r1) == 0
