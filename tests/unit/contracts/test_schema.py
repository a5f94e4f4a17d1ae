from __future__ import annotations

from typing import Any

import pytest

from actors.contracts.generation import JsonSchema
from actors.contracts.schema import MOST_ENTRIES, MOST_LEVELS, MOST_PROPERTIES, fault


def an_object(**properties: Any) -> JsonSchema:
    return {"type": "object", "properties": properties}


def nested(levels: int) -> JsonSchema:
    inner: JsonSchema = {"type": "string"}
    for _ in range(levels - 1):
        inner = {"type": "array", "items": inner}
    return inner


def wide(properties: int) -> JsonSchema:
    return an_object(**{f"p{n}": {"type": "integer"} for n in range(properties)})


def long(different: int) -> JsonSchema:
    """Strings of 256 characters at most, and of so many different lengths at least."""
    return an_object(**{f"p{n}": {"type": "string", "minLength": n % different, "maxLength": 256} for n in range(64)})


def choice(entries: int) -> JsonSchema:
    return an_object(one={"enum": list(range(entries))})


LIKELY: list[JsonSchema] = [
    {"type": "object"},
    {
        "type": "object",
        "properties": {"kind": {"$ref": "#/$defs/Kind"}, "kid": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["kind", "kid"],
        "$defs": {"Kind": {"enum": ["oak", "elm"]}},
    },
    an_object(pattern={"type": "string"}, format={"type": "integer"}, maxLength={"type": ["number", "null"]}),
    an_object(named={"const": {"pattern": "x"}, "default": {"format": "y"}}),
    an_object(text={"type": "string", "minLength": 1, "maxLength": 256}),
    nested(MOST_LEVELS),
    wide(MOST_PROPERTIES),
    choice(MOST_ENTRIES),
    long(2),
]


@pytest.mark.parametrize("schema", LIKELY)
def test_what_clients_ask_for_is_taken(schema: JsonSchema) -> None:
    assert fault([schema]) is None


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (an_object(a={"pattern": "a|b"}), "has `pattern`, which is not taken here. Leave it out"),
        ({"type": "object", "patternProperties": {"a": {}}}, "has `patternProperties`"),
        ({"type": "object", "$defs": {"a": {"items": [{"format": "date"}]}}}, "has `format`"),
        ({"type": "object", "else": {"not": {"pattern": "a"}}}, "has `pattern`"),
        ({"type": "object", "properties": {"properties": {"pattern": "a"}}}, "has `pattern`"),
        (an_object(a={"maxLength": 257}), "a `maxLength` of 257, and 256 is the most. Lower it"),
        (an_object(a={"minLength": 257}), "`minLength`"),
        (an_object(a={"maxItems": 1e9}), "`maxItems`"),
        (an_object(a={"minItems": 257}), "`minItems`"),
        ({"type": "object", "maxProperties": 257}, "`maxProperties`"),
        (nested(MOST_LEVELS + 1), "more than 8 levels deep. Make it flatter"),
        (nested(100_000), "more than 8 levels deep"),
        (wide(MOST_PROPERTIES + 1), "have 65 properties in all, and 64 are the most"),
        (choice(MOST_ENTRIES + 1), "have 65 entries in all, and 64 are the most"),
        (an_object(a={"anyOf": [{"oneOf": [{}] * 33}, {"enum": [1] * 31}]}), "have 66 entries"),
        (long(3), "`minLength`s come to 768, and 512 is the most. Lower them, or give several strings the same"),
        (an_object(a={"description": "x" * 8192}), "bytes in all, and 8192 are the most. Shorten"),
        (an_object(a={"type": ["array"] * 2}), "names one several times"),
        (an_object(a={"$ref": "#/properties/b/default"}), "Put what it refers to in `$defs`"),
        (an_object(a={"$ref": "#/$defs/b/const"}), "Put what it refers to in `$defs`"),
        (an_object(a={"$ref": 1}), "Put what it refers to in `$defs`"),
    ],
)
def test_what_could_hold_an_engine_up_is_refused_with_what_to_do(schema: JsonSchema, why: str) -> None:
    assert why in str(fault([schema]))


def test_what_is_given_together_counts_together() -> None:
    halves = [wide(MOST_PROPERTIES // 2), wide(MOST_PROPERTIES // 2)]
    assert fault(halves) is None
    assert "have 65 properties in all" in str(fault([*halves, wide(1)]))
    assert "bytes in all" in str(fault([{"type": "object", "description": "x" * 4096}] * 2))
