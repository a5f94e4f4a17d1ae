"""OpenAI's part of the reference: the paths that its clients call, in OpenAPI."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from actors.http.openai_requests import CreateChat, CreateResponse

Json = dict[str, Any]

ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
"""What every refusal under these paths is."""


def schemas(ref_template: str) -> Json:
    """The schemas of what is sent, by name. What is not understood in it is refused by name."""
    sent: list[tuple[type[BaseModel], Any]] = [(CreateResponse, "validation"), (CreateChat, "validation")]
    _, found = models_json_schema(sent, ref_template=ref_template)
    definitions: Json = found["$defs"]
    return {**definitions, "OpenAIError": ERROR}


def paths() -> Json:
    """The paths. Answers are OpenAI's objects; its own documentation says what is in them."""
    id = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^resp_[a-z2-7]{26}$"}}
    name = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    stream = _query("stream", "Its events, as they come.", {"type": "boolean", "default": False})
    after = _query("starting_after", "The `sequence_number` of the last event seen.", {"type": "integer", "minimum": 0})
    return {
        "/v1/responses": {"post": _create("create_response", "Have a response generated", "CreateResponse", "404")},
        "/v1/responses/{id}": {
            "get": _operation(
                "response",
                "A response as it stands, or its events",
                _streamed(),
                "400",
                "404",
                parameters=[id, stream, after],
            ),
            "delete": _operation(
                "delete_response", "Take a response out of the log", _object(), "404", "409", parameters=[id]
            ),
        },
        "/v1/responses/{id}/input_items": {
            "get": _operation(
                "input_items",
                "What the model was given for a response",
                _object(),
                "400",
                "404",
                parameters=[
                    id,
                    _query("order", "The newest first, or the oldest.", {"enum": ["desc", "asc"], "default": "desc"}),
                    _query("after", "The id of the item before.", {"type": "string"}),
                    _query("limit", "How many at most.", {"type": "integer", "minimum": 1, "maximum": 100}),
                ],
            )
        },
        "/v1/responses/{id}/cancel": {
            "post": _operation(
                "cancel_response", "Stop a response that is in the background", _object(), "400", "404", parameters=[id]
            )
        },
        "/v1/chat/completions": {
            "post": _create("create_chat", "Have the next turn of a chat generated", "CreateChat", "500", "504")
        },
        "/v1/models": {"get": _operation("models", "What can be asked for as a model", _object())},
        "/v1/models/{model}": {"get": _operation("model", "One of them", _object(), "404", parameters=[name])},
    }


def _create(name: str, summary: str, model: str, *statuses: str) -> Json:
    key = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": 255}}
    refused = {"400", "404", "408", "409", "413", "415", "422", "429", *statuses}
    operation = _operation(name, summary, _streamed(), *sorted(refused), parameters=[key])
    body = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model}"}}}
    return {**operation, "requestBody": {"required": True, "content": body}}


def _operation(
    name: str, summary: str, answer: Json, *statuses: str, parameters: tuple[Json, ...] | list[Json] = ()
) -> Json:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}}
    refused = {status: {"description": "Refused.", "content": error} for status in (*statuses, "503")}
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["OpenAI"],
        "parameters": list(parameters),
        "responses": {"200": answer, **refused},
    }


def _query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _object() -> Json:
    return {"description": "OK", "content": {"application/json": {"schema": {"type": "object"}}}}


def _streamed() -> Json:
    told = _object()
    return {**told, "content": {**told["content"], "text/event-stream": {"schema": {"type": "string"}}}}
