"""What OpenAI's clients ask for: the conversation that it comes to, or what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actors.contracts.conversation import Said
from actors.http.openai_errors import answer
from actors.http.openai_items import MOST_ITEMS
from actors.http.openai_requests import NOTHING, SAME_AS_LEFT_OUT, CreateChat, CreateResponse, asked_of, read_request
from actors.http.problem import Refusal


def chat(**more: Any) -> CreateChat:
    said = [{"role": "user", "content": "go"}]
    return read_request(CreateChat, json.dumps({"model": "chat", "messages": said, **more}).encode())


def test_the_input_of_a_response_becomes_a_conversation_after_its_instructions() -> None:
    item = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant"}
    body = {
        "model": "chat",
        "instructions": "Be brief.",
        "input": [
            {"role": "developer", "content": "Rhyme."},
            {"role": "user", "content": [{"type": "input_text", "text": "a "}, {"type": "input_text", "text": "b"}]},
            {**item, "content": [{"type": "output_text", "text": "c", "annotations": [], "logprobs": []}]},
        ],
        "max_output_tokens": 7,
        "temperature": 0,
        "top_p": None,
    }
    conversation = read_request(CreateResponse, json.dumps(body).encode()).conversation(NOTHING)
    assert conversation.messages == [
        Said(role="system", content="Be brief."),
        Said(role="system", content="Rhyme."),
        Said(role="user", content="a b"),
        Said(role="assistant", content="c"),
    ]
    assert (conversation.max_tokens, conversation.temperature, conversation.top_p) == (7, 0.0, 1.0)


def test_how_a_chat_is_generated_is_passed_on() -> None:
    conversation = chat(max_tokens=5, max_completion_tokens=9, stop="end", seed=3, top_p=0.5).conversation(NOTHING)
    assert (conversation.max_tokens, conversation.stop, conversation.seed) == (9, ["end"], 3)
    assert (conversation.temperature, conversation.top_p) == (1.0, 0.5)


def test_what_ignores_the_end_has_as_many_tokens_as_it_may() -> None:
    assert chat(max_tokens=5, ignore_eos=True).conversation(NOTHING).min_tokens == 5
    assert chat(max_tokens=5).conversation(NOTHING).min_tokens == 0
    with pytest.raises(Refusal, match="how many tokens"):
        _ = chat(ignore_eos=True).conversation(NOTHING)


def test_what_asks_for_nothing_may_be_sent() -> None:
    for name, values in SAME_AS_LEFT_OUT.items():
        for value in (*values, None):
            assert chat(**{name: value}) == chat()


@pytest.mark.parametrize(
    ("sent", "param", "code"),
    [
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"audio": {}}, "audio", "unsupported_parameter"),
        ({"messages": [{"role": "tool", "content": "4"}]}, "messages", "invalid_value"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
        ({"metadata": {"a": 1}}, "metadata", "invalid_value"),
    ],
)
def test_what_does_not_fit_is_named(sent: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        chat(**sent)
    said = answer(refused.value)
    error = json.loads(bytes(said.body))["error"]
    assert (said.status_code, error["param"], error["code"]) == (400, param, code)
    assert error["type"] == "invalid_request_error"
    assert param in error["message"]


PATTERN = {"type": "object", "properties": {"a": {"type": "string", "pattern": "a|b"}}}


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": PATTERN}}},
            "response_format",
        ),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": PATTERN}}]}, "tools"),
    ],
)
def test_a_schema_that_could_hold_an_engine_up_is_refused_with_what_to_do(sent: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as refused:
        chat(**sent).conversation(NOTHING)
    said = answer(refused.value)
    error = json.loads(bytes(said.body))["error"]
    assert (said.status_code, error["param"], error["code"]) == (400, param, "invalid_value")
    assert error["message"].startswith(f"`{param}`: A schema has `pattern`, which is not taken here. Leave it out")


def test_the_schemas_of_all_functions_count_together() -> None:
    def tool(n: int) -> dict[str, Any]:
        named = {"name": f"f{n}", "parameters": {"type": "object", "properties": {"a": {}, "b": {}}}}
        return {"type": "function", "function": named}

    assert len(chat(tools=[tool(n) for n in range(32)]).conversation(NOTHING).functions) == 32
    with pytest.raises(Refusal, match="66 properties in all"):
        chat(tools=[tool(n) for n in range(33)]).conversation(NOTHING)


def test_another_request_has_another_fingerprint_and_the_order_of_its_fields_does_not_count() -> None:
    def fingerprint(body: bytes, pipeline: str = "chat") -> str:
        return asked_of(pipeline, read_request(CreateResponse, body), body)[0].fingerprint

    first = fingerprint(b'{"model": "chat", "input": "go"}')
    assert fingerprint(b'{"input":"go","model":"chat"}') == first
    assert fingerprint(b'{"model": "chat", "input": "went"}') != first
    assert fingerprint(b'{"model": "chat", "input": "go", "stream": true}') != first
    assert fingerprint(b'{"model": "chat", "input": "go"}', "other") != first


def test_who_waits_goes_before_who_does_not() -> None:
    waits, later = b'{"model": "chat", "input": "go"}', b'{"model": "chat", "input": "go", "background": true}'
    lanes = [asked_of("chat", read_request(CreateResponse, body), body)[0].submission.lane for body in (waits, later)]
    assert lanes == ["interactive", "standard"]


def call(id: str, arguments: str = "{}") -> dict[str, Any]:
    return {"type": "function_call", "call_id": id, "name": "look", "arguments": arguments}


def said_in(items: list[dict[str, Any]]) -> list[tuple[str, str]]:
    request = read_request(CreateResponse, json.dumps({"model": "chat", "input": items}).encode())
    return [(said.role, said.content) for said in request.conversation(NOTHING).messages]


def test_calls_that_follow_each_other_are_one_turn_and_so_is_what_they_gave() -> None:
    outputs = [{"type": "function_call_output", "call_id": id, "output": id} for id in ("a", "b")]
    looks = '{"calls": [{"name": "look", "arguments": {"at": 1}}, {"name": "look", "arguments": "at"}]}'
    again = '{"calls": [{"name": "look", "arguments": {}}]}'
    assert said_in([call("a", '{"at": 1}'), call("b", "at"), *outputs, call("c")]) == [
        ("assistant", looks),
        ("user", "look gave: a\nlook gave: b"),
        ("assistant", again),
    ]


@pytest.mark.parametrize("text", ['{"calls": []}', "[" * 100_000])
def test_what_the_model_said_before_its_calls_is_only_text(text: str) -> None:
    [(_, content)] = said_in([{"role": "assistant", "content": text}, call("a"), call("b")])
    assert content == f'{text}\n{{"calls": {json.dumps([{"name": "look", "arguments": {}}] * 2)}}}'


def test_a_conversation_is_as_long_as_it_may_be_and_no_longer() -> None:
    calls = [call(str(n)) for n in range(MOST_ITEMS + 1)]
    assert len(said_in(calls[:-1])) == 1
    message = {"role": "user", "content": "go"}
    assert len(chat(messages=[message] * MOST_ITEMS).messages) == MOST_ITEMS
    for refused in (lambda: said_in(calls), lambda: chat(messages=[message] * (MOST_ITEMS + 1))):
        with pytest.raises(Refusal) as refusal:
            refused()
        assert "at most 1000 items" in bytes(answer(refusal.value).body).decode()


def test_arguments_that_are_nested_too_deeply_are_refused() -> None:
    deep = "[" * 100_000
    tool_call = {"id": "a", "function": {"name": "look", "arguments": deep}}
    asked = chat(messages=[{"role": "assistant", "tool_calls": [tool_call]}])
    for refused in (lambda: said_in([call("a", deep)]), lambda: asked.conversation(NOTHING)):
        with pytest.raises(Refusal, match="nested too deeply") as refusal:
            refused()
        assert answer(refusal.value).status_code == 400
