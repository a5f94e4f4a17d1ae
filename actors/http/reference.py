"""The reference: what can be asked over HTTP, and what is answered, as an OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic.json_schema import models_json_schema

from actors.contracts.subjects import LANES
from actors.http import openai_reference, problem, webhooks_reference
from actors.http.door import OPEN_PATHS
from actors.http.openapi import (
    BODY_PROBLEMS,
    KEY_SHOWN,
    REF,
    Json,
    answer,
    body,
    get,
    header_schemas,
    key_for,
    list_of,
    problems,
    ref,
)
from actors.http.submission import Form
from actors.http.wishes import Answering, Cancelling, Discarding, Redriving
from actors.replies import (
    Accepted,
    DeadLetter,
    DeadLetterPage,
    Job,
    JobPage,
    PipelineReport,
    Problem,
    RoomReport,
    StageReport,
)

MODELS = (
    Accepted,
    Job,
    JobPage,
    DeadLetter,
    DeadLetterPage,
    PipelineReport,
    StageReport,
    RoomReport,
    Problem,
    Answering,
    Cancelling,
    Redriving,
    Discarding,
    *webhooks_reference.MODELS,
)
"""What is sent and answered beside the pipelines' own types."""

ABOUT = """A job is accepted when it is on disk (202), and reaches exactly one outcome.
Follow it at `/v1/events/{id}` (on a WebSocket at `/v1/events/{id}/ws`), or ask for it at `/v1/jobs/{id}`.
Any request is refused whose address (414) or headers (431) are too large."""


def document(forms: Iterable[Form]) -> Json:
    """The OpenAPI document of an installation with these pipelines."""
    paths: Json = {}
    _, schemas = models_json_schema([(model, "validation") for model in MODELS], ref_template=REF)
    components: Json = schemas["$defs"] | openai_reference.schemas(REF)
    for form in forms:
        name = form.pipeline.name
        schema = form.model.model_json_schema(ref_template=f"#/components/schemas/{name}.{{model}}")
        components |= {f"{name}.{model}": definition for model, definition in schema.pop("$defs", {}).items()}
        components[name] = schema
        paths[f"/v1/pipelines/{name}/jobs"] = {"post": _submit(form)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headrace", "version": "1", "description": ABOUT},
        "paths": _behind_door(paths | _reading() | webhooks_reference.paths()) | openai_reference.paths(),
        "components": {"schemas": components, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _behind_door(paths: Json) -> Json:
    """The same, with what every operation answers that may need a key."""
    for path, operations in paths.items():
        for operation in operations.values() if path not in OPEN_PATHS else ():
            answers, refused = operation["responses"], problems(problem.INVALID_KEY, problem.FOREIGN_SITE)
            for status, refusal in refused.items():
                said = [one["description"] for one in (answers.get(status), refusal) if one]
                answers[status] = refusal | {"description": "; ".join(said)}
            operation["security"] = [{}, {"key": []}]
    return paths


def _submit(form: Form) -> Json:
    name = form.pipeline.name
    headers = {"Location": "Where the job is.", "Idempotency-Key": KEY_SHOWN}
    return {
        "operationId": f"submit_{name}",
        "summary": f"Submit a job to {name}",
        "tags": ["jobs"],
        "parameters": [key_for("job"), _WAIT],
        "requestBody": body(name),
        "responses": {
            "202": answer("It is stored; waiting was not asked for, or not enough.", ref("Accepted"))
            | {"headers": header_schemas(headers | _APPLIED)},
            "200": answer("It has its outcome; or, without waiting, it was stored before.", ref("Job"))
            | {"headers": header_schemas(headers | _APPLIED | {"Idempotent-Replay": "true, if it was stored before."})},
            **problems(
                *BODY_PROBLEMS,
                problem.BAD_KEY,
                problem.KEY_REUSED,
                problem.BACKLOG,
                problem.UNAVAILABLE,
                problem.FULL,
            ),
        },
    }


def _reading() -> Json:
    job = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[a-z2-7]{26}$"}}
    place = {"type": "string", "pattern": r"^[0-9]{1,15}(\.[0-9]{1,18})?$"}
    last = {
        "name": "Last-Event-ID",
        "in": "header",
        "schema": place,
        "description": "The `id:` of the last event seen.",
    }
    after = {"name": "after", "in": "query", "schema": place, "description": "The same, or only its number."}
    bound = {
        "name": "cancel_on_disconnect",
        "in": "query",
        "schema": {"type": "boolean", "default": False},
        "description": "Cancel the job when this reader goes away before the outcome and is not back within seconds. "
        "A session cannot ask for that.",
    }
    stream = {
        "description": "Server-sent events, up to the outcome. A stream also ends after some minutes: resume it.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    return {
        "/v1/jobs": get(
            "jobs",
            "The jobs there are, the newest first",
            ("jobs",),
            ref("JobPage"),
            problem.BAD_PAGE,
            parameters=_LISTING,
        ),
        "/v1/jobs/{id}": _job(job),
        "/v1/jobs/{id}/log": {
            "get": {
                "operationId": "log",
                "summary": "The events of a job as they are stored, one per line",
                "tags": ["jobs"],
                "parameters": [job, _LINE],
                "responses": {
                    "200": {"description": "OK", "content": {"application/x-ndjson": {"schema": {"type": "string"}}}},
                    **problems(problem.BAD_PLACE, problem.UNKNOWN_JOB, problem.UNAVAILABLE),
                },
            }
        },
        "/v1/jobs/{id}/cancel": {
            "post": {
                "operationId": "cancel",
                "summary": "Stop a job; doing it again is harmless",
                "tags": ["jobs"],
                "parameters": [job],
                "requestBody": body("Cancelling", required=False),
                "responses": {
                    "200": answer("It has its outcome, now or since before.", ref("Job")),
                    "202": answer("It runs, and its worker was asked to end it.", ref("Job")),
                    **problems(*BODY_PROBLEMS, problem.UNKNOWN_JOB, problem.UNAVAILABLE),
                },
            }
        },
        "/v1/jobs/{id}/input": {
            "post": {
                "operationId": "answer",
                "summary": "Answer what a job asks; doing it again is harmless",
                "tags": ["jobs"],
                "parameters": [job],
                "requestBody": body("Answering"),
                "responses": {
                    "200": answer("It is stored, now or since before, and the job goes on.", ref("Job")),
                    **problems(
                        *BODY_PROBLEMS,
                        problem.UNKNOWN_JOB,
                        problem.NOT_ASKED,
                        problem.ANSWERED_OTHERWISE,
                        problem.UNAVAILABLE,
                    ),
                },
            }
        },
        **_reviewing(job),
        "/v1/events": {
            "get": {
                "operationId": "events_of_several",
                "summary": "The events of several jobs on one stream, up to the last outcome",
                "tags": ["jobs"],
                "parameters": [_JOBS, {**last, "schema": _PLACES}, {**after, "schema": _PLACES}],
                "responses": {
                    "200": stream,
                    "204": {"description": "All outcomes were seen already: do not come back."},
                    **problems(problem.BAD_PLACE, problem.BAD_OPTION, problem.UNKNOWN_JOB, problem.UNAVAILABLE),
                },
            }
        },
        "/v1/events/{id}": {
            "get": {
                "operationId": "events",
                "summary": "The events of a job, as they come",
                "tags": ["jobs"],
                "parameters": [job, last, after, bound],
                "responses": {
                    "200": stream,
                    "204": {"description": "The outcome was seen already: do not come back."},
                    **problems(
                        problem.BAD_PLACE,
                        problem.BAD_OPTION,
                        problem.READ_ONLY,
                        problem.UNKNOWN_JOB,
                        problem.UNAVAILABLE,
                    ),
                },
            }
        },
        "/v1/events/{id}/session": {
            "post": {
                "operationId": "session",
                "summary": "Let a browser's EventSource read these events for an hour, by a cookie instead of a key",
                "tags": ["jobs"],
                "parameters": [job],
                "responses": {
                    "204": {"description": "The cookie is set, if a key was sent; without keys none is needed."},
                    **problems(problem.UNKNOWN_JOB, problem.UNAVAILABLE),
                },
            }
        },
        "/v1/pipelines": get("pipelines", "What takes jobs", ("installation",), list_of("pipelines", "PipelineReport")),
        "/v1/stages": get(
            "stages",
            f"What waits and runs, in the lanes {', '.join(LANES)}, on which replicas, and what scaling decided",
            ("installation",),
            list_of("stages", "StageReport", beside={"room": ref("RoomReport"), "webhooks": ref("WebhooksReport")}),
            problem.OPERATORS_ONLY,
        ),
        "/healthz": get("healthz", "Whether this process answers", ("installation",), _STATUS),
        "/readyz": get("readyz", "Whether a job can be stored", ("installation",), _STATUS),
    }


def _job(job: Json) -> Json:
    known = {
        "name": "If-None-Match",
        "in": "header",
        "description": "The `ETag` of the answer that is known.",
        "schema": {"type": "string"},
    }
    summary = "A job as it stands, or once it has its outcome"
    parameters = [job, _WAIT, known]
    asked = get("job", summary, ("jobs",), ref("Job"), problem.UNKNOWN_JOB, parameters=parameters)
    told = {"ETag": "Made of the job's last event.", **_APPLIED}
    asked["get"]["responses"]["200"]["headers"] = header_schemas(told)
    asked["get"]["responses"]["304"] = {"description": "It is still as it is known.", "headers": header_schemas(told)}
    return asked


def _reviewing(job: Json) -> Json:
    asked = [
        ("pipeline", "Only of this pipeline.", {"type": "string"}),
        ("stage", "Only those that this stage gave up.", {"type": "string"}),
        ("limit", "How many at most; 50 if not said.", {"type": "integer", "minimum": 1, "maximum": 200}),
        ("cursor", "The `next` of the page before.", {"type": "string", "pattern": "^[0-9]{1,19}$"}),
    ]
    parameters = [{"name": name, "in": "query", "description": what, "schema": s} for name, what, s in asked]
    tags = ["dead letters"]
    missing, own = (problem.UNKNOWN_DEAD_LETTER, problem.UNAVAILABLE), (problem.DISCARDED, problem.NOT_REDRIVABLE)
    return {
        "/v1/dead-letters": get(
            "dead_letters",
            "The jobs that used up their budget",
            tags,
            ref("DeadLetterPage"),
            problem.BAD_PAGE,
            parameters=parameters,
        ),
        "/v1/dead-letters/{id}": get(
            "dead_letter",
            "A dead letter, whole",
            tags,
            ref("DeadLetter"),
            problem.UNKNOWN_DEAD_LETTER,
            parameters=[job],
        ),
        "/v1/dead-letters/{id}/redrive": {
            "post": {
                "operationId": "redrive",
                "summary": "Make a new job of a dead letter, from the stage that failed",
                "tags": tags,
                "parameters": [job],
                "requestBody": body("Redriving", required=False),
                "responses": {
                    "202": answer("The new job is stored.", ref("Accepted"))
                    | {"headers": header_schemas({"Location": "Where the new job is."})},
                    "200": answer("That redrive was made before.", ref("Job"))
                    | {"headers": header_schemas({"Location": "Where the job is."})},
                    **problems(*BODY_PROBLEMS, *missing, *own, problem.REDRIVEN_OTHERWISE),
                },
            }
        },
        "/v1/dead-letters/{id}/discard": {
            "post": {
                "operationId": "discard",
                "summary": "Let a dead letter be, for good",
                "tags": tags,
                "parameters": [job],
                "requestBody": body("Discarding"),
                "responses": {
                    "200": answer("It is discarded, now or since before.", ref("DeadLetter")),
                    **problems(*BODY_PROBLEMS, *missing),
                },
            }
        },
    }


_WAIT: Json = {
    "name": "Prefer",
    "in": "header",
    "description": "`wait=n`: stay open for the outcome, up to n seconds (RFC 7240).",
    "schema": {"type": "string", "examples": ["wait=30"]},
}
_APPLIED = {"Preference-Applied": "How long it may have stayed open."}
_PLACES: Json = {"type": "string", "pattern": r"^[0-9]{1,15}(\.[0-9]{1,18})?(-[0-9]{1,15}(\.[0-9]{1,18})?)*$"}
_JOBS: Json = {
    "name": "jobs",
    "in": "query",
    "required": True,
    "description": "Their ids, separated by commas; in the same order when a reader resumes.",
    "schema": {"type": "string", "pattern": "^[a-z2-7]{26}(,[a-z2-7]{26}){0,49}$"},
}
_LINE: Json = {
    "name": "after",
    "in": "query",
    "description": "Only what lies after this `sequence`.",
    "schema": {"type": "integer", "minimum": 0},
}
_LISTING: tuple[Json, ...] = tuple(
    {"name": name, "in": "query", "description": what, "schema": schema}
    for name, what, schema in (
        ("status", "Only with this status; several separated by commas.", {"type": "string"}),
        ("pipeline", "Only of this pipeline.", {"type": "string"}),
        ("since", "Only made at this time or later.", {"type": "string", "format": "date-time"}),
        ("until", "Only made before this time.", {"type": "string", "format": "date-time"}),
        ("limit", "How many at most; 50 if not said.", {"type": "integer", "minimum": 1, "maximum": 200}),
        ("cursor", "The `next` of the page before.", {"type": "string", "pattern": r"^[0-9]{1,17}\.[a-z2-7]{26}$"}),
    )
)

_STATUS: Json = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
