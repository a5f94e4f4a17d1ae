"""What the model is told it may call, and the grammar that it is held to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from actors.contracts.conversation import Conversation, Function, Said
from actors.contracts.generation import JsonSchema, Turn
from actors.functions import calls_schema, choosing, fitting

TREE: JsonSchema = {
    "type": "object",
    "properties": {"kind": {"$ref": "#/$defs/Kind"}, "kid": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "required": ["kind", "kid"],
    "$defs": {"Kind": {"enum": ["oak", "elm"]}},
}
PLAIN = Function(name="plain")
GROW = Function(name="grow", description="Grows a tree.", parameters=TREE)


def call(name: str, **arguments: Any) -> Any:
    return {"name": name, "arguments": arguments}


OAK = {"kind": "oak", "kid": {"kind": "elm", "kid": None}}


@pytest.mark.parametrize(
    ("calls", "fits"),
    [
        ([call("grow", **OAK)], True),
        ([call("plain")], True),
        ([call("plain"), call("grow", **OAK)], True),
        ([call("plain", more=1)], False),
        ([call("grow", kind="ash", kid=None)], False),
        ([call("grow", kind="oak", kid={"kind": "ash", "kid": None})], False),
        ([call("other")], False),
        ([], False),
        ([call("plain")] * 3, False),
        ([{**call("plain"), "why": "so"}], False),
    ],
)
def test_only_calls_that_fit_the_functions_can_be_written(calls: list[Any], *, fits: bool) -> None:
    schema = calls_schema([PLAIN, GROW], least=1, most=2)
    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid({"calls": calls}) is fits


def test_a_model_that_may_answer_may_write_no_call() -> None:
    schema = Draft202012Validator(calls_schema([PLAIN], least=0, most=1))
    assert schema.is_valid({"calls": []})
    assert not schema.is_valid({})


def test_the_functions_are_told_in_one_system_turn_with_what_was_there() -> None:
    said = [Said(role="system", content="Be brief."), Said(role="user", content="Grow!")]
    asked = Conversation(messages=said, functions=[GROW, PLAIN])
    told_first = choosing(asked)
    assert not isinstance(told_first, str)
    first, second = told_first
    assert second == Turn("user", "Grow!")
    assert first.role == "system"
    assert first.content.startswith("Be brief.\n\n")
    told = [json.loads(line) for line in first.content.splitlines() if line.startswith('{"name"')]
    assert [one["name"] for one in told] == ["grow", "plain"]
    assert '{"calls": []}' in first.content
    assert "Call at least one." in str(choosing(asked.model_copy(update={"must_call": True}))[0])
    alone = fitting(Conversation(messages=said[1:]), {"type": "object"})
    assert [turn.role for turn in alone if isinstance(turn, Turn)] == ["system", "user"]
