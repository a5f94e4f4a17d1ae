"""Function calling: how the model is told what it may call, and held to it by a grammar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from actors.contracts.conversation import Conversation, Function
from actors.contracts.generation import JsonSchema, Prompt, Turn

CALL = (
    'To call functions, answer with JSON: {"calls": [{"name": "<function>", "arguments": {…}}]}. What they give comes '
    "back to you."
)
MAY = 'To answer by yourself, answer {"calls": []}.'
MUST = "Call at least one."
FIT = "Answer with JSON that fits this schema:"


def choosing(conversation: Conversation) -> Prompt:
    """The conversation, for a model that decides what to call."""
    told = [
        CALL,
        MUST if conversation.must_call else MAY,
        "The functions:",
        *(_told(function) for function in conversation.functions),
    ]
    return _after("\n".join(told), conversation.prompt)


def fitting(conversation: Conversation, schema: JsonSchema) -> Prompt:
    """The conversation, for a model whose answer has to fit a schema."""
    return _after(f"{FIT}\n{json.dumps(schema, ensure_ascii=False)}", conversation.prompt)


def calls_schema(functions: Sequence[Function], *, least: int, most: int) -> JsonSchema:
    """What the model writes down when it decides: so many calls, each with arguments that fit the function's schema."""
    return {
        "type": "object",
        "properties": {
            "calls": {
                "type": "array",
                "items": {"anyOf": [_call(at, function) for at, function in enumerate(functions)]},
                "minItems": least,
                "maxItems": most,
            }
        },
        "required": ["calls"],
        "additionalProperties": False,
        "$defs": {_place(at): _parameters(at, function) for at, function in enumerate(functions)},
    }


def _told(function: Function) -> str:
    return json.dumps(function.model_dump(exclude_defaults=True), ensure_ascii=False)


def _after(told: str, prompt: Prompt) -> Prompt:
    """The prompt with this said first; in one system turn with what its own says, as templates take one at most."""
    assert not isinstance(prompt, str)
    first, *rest = prompt
    if first.role == "system":
        return (Turn("system", f"{first.content}\n\n{told}"), *rest)
    return (Turn("system", told), *prompt)


def _call(at: int, function: Function) -> JsonSchema:
    return {
        "type": "object",
        "properties": {"name": {"const": function.name}, "arguments": {"$ref": f"#/$defs/{_place(at)}"}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _place(at: int) -> str:
    return f"f{at}"


def _parameters(at: int, function: Function) -> JsonSchema:
    """A function's own schema, which now stands further down: what it refers to in itself moves with it."""
    moved = _moved(function.parameters or {"properties": {}, "additionalProperties": False}, f"#/$defs/{_place(at)}")
    return {"type": "object", **moved}


def _moved(part: Any, to: str) -> Any:
    match part:
        case dict():
            return {
                name: to + value[1:]
                if name == "$ref" and isinstance(value, str) and value.startswith("#")
                else _moved(value, to)
                for name, value in part.items()
            }
        case list():
            return [_moved(one, to) for one in part]
    return part
