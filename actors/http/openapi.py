"""OpenAPI: the pieces that the reference is put together of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from actors.http import problem
from actors.http.problem import MEDIA_TYPE, Kind

Json = dict[str, Any]

REF = "#/components/schemas/{model}"

BODY_PROBLEMS = (problem.MALFORMED, problem.TOO_SLOW, problem.TOO_LARGE, problem.BAD_MEDIA_TYPE, problem.INVALID)
"""How a body is refused."""

KEY_SHOWN = "The key that makes a retry safe."


def get(
    name: str, summary: str, tags: Iterable[str], schema: Json, *kinds: Kind, parameters: Iterable[Json] = ()
) -> Json:
    """The path of something that is only read."""
    responses = {"200": answer("OK", schema), **problems(*kinds, problem.UNAVAILABLE)}
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "tags": list(tags),
            "parameters": list(parameters),
            "responses": responses,
        }
    }


def problems(*kinds: Kind) -> Json:
    """Answers by status; several problems may share one."""
    titles: dict[int, list[str]] = {}
    for kind in kinds:
        titles.setdefault(kind.status, []).append(kind.title)
    return {
        str(status): {"description": "; ".join(said), "content": {MEDIA_TYPE: {"schema": ref("Problem")}}}
        for status, said in titles.items()
    }


def answer(description: str, schema: Json) -> Json:
    """An answer in JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def key_for(what: str) -> Json:
    """The header whose key makes a retry of a request safe that makes something."""
    said = f"The same key and body make the same {what}, however often they are sent. Without it, one is made."
    schema = {"type": "string", "minLength": 1, "maxLength": 255}
    return {"name": "Idempotency-Key", "in": "header", "description": said, "schema": schema}


def body(model: str, *, required: bool = True) -> Json:
    """What is sent."""
    return {"required": required, "content": {"application/json": {"schema": ref(model)}}}


def header_schemas(told: dict[str, str]) -> Json:
    """Headers of an answer, and what they say."""
    return {name: {"description": what, "schema": {"type": "string"}} for name, what in told.items()}


def list_of(name: str, model: str, *, beside: Json | None = None) -> Json:
    """An object with a list in it, and what stands beside."""
    properties = {name: {"type": "array", "items": ref(model)}} | (beside or {})
    return {"type": "object", "properties": properties, "required": list(properties)}


def ref(model: str) -> Json:
    """A schema by its name."""
    return {"$ref": REF.format(model=model)}
