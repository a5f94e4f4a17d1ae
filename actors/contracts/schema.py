"""A schema of a client's: what of JSON Schema a stranger may hold the model to.

An engine makes a grammar of it before the first token, for everybody in one process, and some few kilobytes can keep it
from ever coming back. What the stages themselves declare is not judged by this.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pydantic import JsonValue

from actors.contracts.generation import JsonSchema

MOST_BYTES = 8 << 10
MOST_PROPERTIES = 64
MOST_ENTRIES = 64
MOST_LEVELS = 8
MOST_REPEATS = 256

MOST_LENGTH = 512
"""The lengths of strings, each pair of a shortest and a longest once: a grammar has a state for every character."""

_REFUSED = {"pattern", "patternProperties", "format"}
_REPEATS = {"maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties"}
_ENTRIES = {"enum", "anyOf", "oneOf", "allOf", "prefixItems"}
_NAMED = {"properties", "$defs", "definitions", "dependentSchemas"}
"""Where the keys are names, and the values schemas."""

_VALUES = {"const", "default", "enum", "example", "examples"}
"""Where there are values, and no schemas, whatever they look like."""

_PLACES = ("$defs", "definitions")


def fault(schemas: Sequence[JsonSchema]) -> str | None:
    """Why an engine is not given what these come to together, and what to do about it; None if it may be."""
    properties = entries = 0
    lengths: set[tuple[float, float]] = set()
    for schema in schemas:
        for part, level in _parts(schema):
            if level > MOST_LEVELS:
                return f"A schema is nested more than {MOST_LEVELS} levels deep. Make it flatter."
            if wrong := _fault_of(part):
                return wrong
            properties += len(named) if isinstance(named := part.get("properties"), dict) else 0
            lengths.add((_number(part.get("minLength")), _number(part.get("maxLength"))))
            entries += sum(len(listed) for name in _ENTRIES if isinstance(listed := part.get(name), list))
    if properties > MOST_PROPERTIES:
        return f"The schemas have {properties} properties in all, and {MOST_PROPERTIES} are the most. Leave some out."
    if entries > MOST_ENTRIES:
        return (
            f"The `enum`s and `anyOf`s have {entries} entries in all, and {MOST_ENTRIES} are the most. Leave some out."
        )
    if (length := sum(map(max, lengths))) > MOST_LENGTH:
        return (
            f"The different `maxLength`s and `minLength`s come to {length:g}, and {MOST_LENGTH} is the most. Lower "
            "them, or give several strings the same."
        )
    size = sum(len(json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode()) for schema in schemas)
    if size > MOST_BYTES:
        return f"The schemas have {size} bytes in all, and {MOST_BYTES} are the most. Shorten them."
    return None


def _parts(schema: JsonSchema) -> Iterator[tuple[JsonSchema, int]]:
    """A schema and every one in it, each with its level; nothing that is more than one level too deep."""
    waiting: list[tuple[JsonValue, int]] = [(schema, 1)]
    while waiting:
        part, level = waiting.pop()
        if isinstance(part, list):
            waiting += [(one, level) for one in part]
        if not isinstance(part, dict):
            continue
        yield part, level
        if level > MOST_LEVELS:
            continue
        for name, value in part.items():
            if name in _NAMED and isinstance(value, dict):
                waiting += [(one, level + 1) for one in value.values()]
            elif name not in _VALUES:
                waiting.append((value, level + 1))


def _fault_of(part: JsonSchema) -> str | None:
    if refused := sorted(_REFUSED & part.keys()):
        return f"A schema has `{refused[0]}`, which is not taken here. Leave it out, and say it in a `description`."
    for name in sorted(_REPEATS & part.keys()):
        if isinstance(most := part[name], int | float) and most > MOST_REPEATS:
            return f"A schema has a `{name}` of {most}, and {MOST_REPEATS} is the most. Lower it, or leave it out."
    if isinstance(types := part.get("type"), list) and len(types) > len({str(one) for one in types}):
        return "A schema's `type` names one several times. Name each once."
    if (to := part.get("$ref")) is not None and not _is_near(to):
        return "A schema has a `$ref` to elsewhere than `#` or `#/$defs/NAME`. Put what it refers to in `$defs`."
    return None


def _number(value: JsonValue) -> float:
    return value if isinstance(value, int | float) else 0


def _is_near(to: JsonValue) -> bool:
    """Whether a reference is to what is looked at as a schema."""
    if to == "#":
        return True
    root, _, rest = to.partition("/") if isinstance(to, str) else ("", "", "")
    place, _, name = rest.partition("/")
    return root == "#" and place in _PLACES and bool(name) and "/" not in name
