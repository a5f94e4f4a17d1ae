"""The OpenAPI document is valid, and what the servers say is what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.openapi.models import OpenAPI
from jsonschema import Draft202012Validator

from actors.contracts.errors import Failure
from actors.contracts.events import DeadLettered
from actors.contracts.messages import Packed
from actors.http.problem import KINDS, Refusal
from actors.http.reference import document
from actors.http.submission import Form
from actors.ingress import ingress
from tests.integration.conftest import opened
from tests.nats_servers import Servers
from tests.pipelines import Anything, keeper, recital
from tests.scribe import Scribe, an_origin
from tests.serving import served, settings_for, working

Json = dict[str, Any]

SUBMIT = {"recital": "/v1/pipelines/recital/jobs", "keeper": "/v1/pipelines/keeper/jobs"}


@pytest.fixture(scope="module")
def api() -> Json:
    return document([Form(p, max_deadline=600) for p in (recital, keeper)])


def schema(api: Json, part: Json) -> Draft202012Validator:
    """A validator for a schema somewhere in the document."""
    return Draft202012Validator({**part, "components": api["components"]})


def operations(api: Json) -> Iterator[Json]:
    for path in api["paths"].values():
        yield from path.values()


def refs(part: Any) -> Iterator[str]:
    match part:
        case dict():
            if isinstance(part.get("$ref"), str):
                yield part["$ref"]
            for value in part.values():
                yield from refs(value)
        case list():
            for value in part:
                yield from refs(value)


def test_the_document_is_openapi_and_its_schemas_are_json_schema(api: Json) -> None:
    OpenAPI.model_validate(api)
    for part in api["components"]["schemas"].values():
        Draft202012Validator.check_schema(part)
    names = {f"#/components/schemas/{name}" for name in api["components"]["schemas"]}
    assert set(refs(api)) <= names
    ids = [operation["operationId"] for operation in operations(api)]
    assert len(set(ids)) == len(ids)


def test_every_pipeline_has_a_typed_schema_of_its_own(api: Json) -> None:
    bodies = {
        name: api["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        for name, path in SUBMIT.items()
    }
    fits: Json = {"input": {"text": "go", "times": 2}, "lane": "batch", "deadline": 600, "metadata": {"a": "b"}}
    recital_schema = schema(api, bodies["recital"])
    assert recital_schema.is_valid(fits)
    unfit: list[Json] = [
        {"input": {"text": 5}},
        {"input": {"text": ""}},
        {"input": {"text": "go", "more": 1}},
        {"input": {}},
        {},
        {**fits, "deadline": 601},
        {**fits, "lane": "fast"},
        {**fits, "more": 1},
    ]
    assert [body for body in unfit if recital_schema.is_valid(body)] == []
    assert schema(api, bodies["keeper"]).is_valid({"input": {"data": [1, {"a": None}]}})
    assert not schema(api, bodies["keeper"]).is_valid(fits)


def test_every_operation_documents_its_problems_with_their_media_type(api: Json) -> None:
    for operation in operations(api):
        problems = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        assert "503" in problems
        if operation["tags"] == ["OpenAI"]:
            error = {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}}
            assert [answer["content"] for answer in problems.values()] == [error] * len(problems)
            continue
        for answer in problems.values():
            assert answer["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }
    submit = api["paths"][SUBMIT["recital"]]["post"]
    assert set(submit["responses"]) == {"202", "200", "400", "401", "403", "408", "413", "415", "422", "429", "503"}


def test_every_kind_of_problem_fits_its_schema(api: Json) -> None:
    problem = schema(api, {"$ref": "#/components/schemas/Problem"})
    for kind in KINDS:
        problem.validate(json.loads(bytes(Refusal(kind, "Do this.").answer().body)))


async def test_what_the_server_says_is_what_the_document_says(r1: Servers) -> None:
    settings = settings_for(r1)
    async with served(settings) as http, working(settings, "keep"):
        api = (await http.get("/openapi.json")).json()

        def check(answer: httpx.Response, path: str, method: str = "get") -> None:
            said = api["paths"][path][method]["responses"][str(answer.status_code)]["content"]
            media_type = answer.headers["Content-Type"].partition(";")[0]
            schema(api, said[media_type]["schema"]).validate(answer.json())

        accepted = await http.post(SUBMIT["keeper"], json={"input": {"data": 1}}, headers={"Idempotency-Key": "k"})
        check(accepted, SUBMIT["keeper"], "post")
        again = await http.post(SUBMIT["keeper"], json={"input": {"data": 1}}, headers={"Idempotency-Key": "k"})
        assert again.status_code == 200
        check(again, SUBMIT["keeper"], "post")
        check(await http.post(SUBMIT["recital"], json={}), SUBMIT["recital"], "post")
        async with asyncio.timeout(20):
            while (job := await http.get(accepted.headers["Location"])).json()["status"] != "completed":
                pass
        check(job, "/v1/jobs/{id}")
        waited = await http.post(SUBMIT["keeper"], json={"input": {"data": 1}}, headers={"Prefer": "wait=20"})
        assert waited.status_code == 200
        check(waited, SUBMIT["keeper"], "post")
        check(await http.get("/v1/jobs"), "/v1/jobs")
        check(await http.get("/v1/jobs?limit=x"), "/v1/jobs")
        check(await http.get("/v1/jobs/nothing/log"), "/v1/jobs/{id}/log")
        check(await http.get("/v1/events?jobs=nothing"), "/v1/events")
        for path, model, body in (
            ("/v1/responses", "CreateResponse", {"model": "m", "input": "go"}),
            ("/v1/chat/completions", "CreateChat", {"model": "m", "messages": [{"role": "user", "content": "go"}]}),
        ):
            schema(api, {"$ref": f"#/components/schemas/{model}"}).validate(body)
            check(await http.post(path, json=body), path, "post")
        check(await http.get("/v1/models"), "/v1/models")
        check(await http.get(f"/v1/responses/resp_{'a' * 26}"), "/v1/responses/{id}")
        check(await http.get("/v1/jobs/nothing"), "/v1/jobs/{id}")
        waits = await http.post(SUBMIT["recital"], json={"input": {"text": "go"}})
        cancelling = "/v1/jobs/{id}/cancel"
        check(await http.post(f"{waits.headers['Location']}/cancel"), cancelling, "post")
        check(await http.post(f"{waits.headers['Location']}/cancel", json={"reason": 1}), cancelling, "post")
        check(await http.get("/v1/events/nothing"), "/v1/events/{id}")
        for path in ("/v1/pipelines", "/v1/stages", "/v1/dead-letters", "/healthz", "/readyz"):
            check(await http.get(path), path)


async def test_what_is_said_about_dead_letters_is_what_the_document_says(r1: Servers) -> None:
    async with served(settings_for(r1)) as http, opened(r1) as journal:
        api = (await http.get("/openapi.json")).json()
        input = Packed.of(Anything(data=1))
        errors = (Failure(type="RuntimeError", message="it broke"),)
        letters = []
        for _ in range(2):
            job = Scribe(journal.appender, origin=an_origin(pipeline="keeper"))
            await job.hand_off("keep", Anything(data=1))
            given: Json = {"origin": job.origin, "stage": "keep", "reason": "it failed", "input": input}
            await job.write(DeadLettered, **given, errors=errors, attempts=3, crashes=0, deliveries=3)
            letters.append(job.address.job)
        paths = ["/v1/dead-letters/{id}", "/v1/dead-letters/{id}/redrive", "/v1/dead-letters/{id}/discard"]
        for method, at, body, status in (
            ("get", 0, None, 200),
            ("post", 1, {"number": 1}, 202),
            ("post", 1, {"number": 1}, 200),
            ("post", 1, {"number": 0}, 422),
            ("post", 1, {"number": 7}, 409),
            ("post", 2, {"reason": "enough"}, 200),
            ("post", 1, None, 409),
        ):
            for letter in letters:
                answer = await http.request(method, paths[at].format(id=letter), json=body)
                assert answer.status_code == status, answer.text
                said = api["paths"][paths[at]][method]["responses"][str(status)]["content"]
                part = said[answer.headers["Content-Type"]]["schema"]
                schema(api, part).validate(answer.json())
        page = await http.get("/v1/dead-letters")
        listed = api["paths"]["/v1/dead-letters"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        schema(api, listed).validate(page.json())
        assert len(page.json()["dead_letters"]) == 2


def test_the_ingress_serves_the_document_of_its_pipelines(r1: Servers) -> None:
    app = ingress(settings_for(r1))
    assert app.openapi() == document([Form(p, max_deadline=settings_for(r1).max_deadline) for p in (recital, keeper)])
