"""What OpenAI's clients ask for: the conversation that it comes to, or what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actors.contracts.conversation import Said
from actors.http.openai_errors import answer
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
