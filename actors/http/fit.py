"""Whether JSON fits a JSON schema, told by where it does not and never by what was sent."""

from __future__ import annotations

import json
from itertools import islice

from jsonschema import Draft202012Validator
from pydantic import JsonValue
from referencing import Registry

from actors.contracts.generation import JsonSchema
from actors.http.body import MAX_FAULTS
from actors.http.problem import fault

LONGEST_RULE = 200


def misfits(schema: JsonSchema, answer: JsonValue) -> list[JsonValue]:
    """What of an answer does not fit; empty when all of it does. A schema is asked for nothing outside itself."""
    validator = Draft202012Validator(schema, registry=Registry())
    found = islice(validator.iter_errors(answer), MAX_FAULTS)
    return [fault(("answer", *e.absolute_path), f"does not fit {_rule(e.validator, e.validator_value)}") for e in found]


def _rule(name: object, value: object) -> str:
    return json.dumps({str(name): value})[:LONGEST_RULE]
