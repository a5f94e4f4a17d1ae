"""Every refusal is a problem: ours, the framework's, and what nobody expected."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from actors.http.problem import KINDS, MEDIA_TYPE, UNKNOWN_JOB, Refusal, answer_with_problems, fault
from actors.journal import Unanswered, Undecided
from actors.journal.connection import ApiError
from actors.replies import Problem

RAISED: dict[str, Exception] = {
    "refusal": Refusal(UNKNOWN_JOB, "Look elsewhere.", headers={"X-More": "1"}, id="abc"),
    "unanswered": Unanswered("nats://user:password@host is away"),
    "undecided": Undecided("who knows"),
    "api": ApiError(10008, "no leader"),
    "teapot": HTTPException(418, "Short and stout."),
    "gone": ClientDisconnect(),
    "bug": ZeroDivisionError("the prompt was: hello"),
}


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI(redirect_slashes=False)

    @app.get("/raise/{name}")
    async def fail(name: str) -> None:
        raise RAISED[name]

    @app.get("/number/{number}")
    async def number(number: int) -> int:
        return number

    answer_with_problems(app)
    return app


@pytest.fixture
def http(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here")


async def told(http: httpx.AsyncClient, path: str, method: str = "GET") -> tuple[httpx.Response, dict[str, Any]]:
    answer = await http.request(method, path)
    assert answer.headers["Content-Type"] == MEDIA_TYPE
    said: dict[str, Any] = answer.json()
    assert said["status"] == answer.status_code
    assert said["type"]
    assert said["title"]
    assert said["detail"].endswith(".")
    assert Problem.model_validate(said).detail == said["detail"]
    return answer, said


async def test_a_refusal_is_answered_with_what_it_says_and_what_it_carries(http: httpx.AsyncClient) -> None:
    answer, said = await told(http, "/raise/refusal")
    assert answer.headers["X-More"] == "1"
    assert said == {
        "type": "urn:headrace:problem:unknown-job",
        "title": UNKNOWN_JOB.title,
        "status": 404,
        "detail": "Look elsewhere.",
        "id": "abc",
    }


@pytest.mark.parametrize("name", ["unanswered", "undecided", "api"])
async def test_a_log_that_does_not_answer_is_503_with_retry_after_and_names_no_server(
    http: httpx.AsyncClient, name: str
) -> None:
    answer, _ = await told(http, f"/raise/{name}")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert "password" not in answer.text


async def test_the_frameworks_own_refusals_are_problems(http: httpx.AsyncClient) -> None:
    assert (await told(http, "/nowhere"))[0].status_code == 404
    assert (await told(http, "/number/1/"))[0].status_code == 404
    answer, said = await told(http, "/number/1", "DELETE")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")
    assert said["detail"] == "Use GET, not DELETE."
    answer, said = await told(http, "/number/x")
    assert answer.status_code == 422
    assert said["errors"][0]["pointer"] == "#/path/number"
    assert (await told(http, "/raise/teapot"))[1]["detail"] == "Short and stout."


async def test_a_bug_is_500_and_its_message_is_said_to_nobody(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer, _ = await told(http, "/raise/bug")
    assert answer.status_code == 500
    assert "hello" not in answer.text
    [record] = [r for r in caplog.records if getattr(r, "action", "") == "request_broken"]
    assert vars(record)["error"] == "ZeroDivisionError"
    assert "test_problem.py" in vars(record)["at"][-1]
    assert not any("hello" in str(vars(r)) for r in caplog.records)


async def test_a_client_that_has_gone_is_no_bug(http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    assert (await http.get("/raise/gone")).status_code == 400
    assert not [r for r in caplog.records if r.name.startswith("actors")]


def test_a_fault_points_into_the_body_as_rfc_6901_writes_it() -> None:
    assert fault(("input", "a/b", 0, "~"), "no") == {"pointer": "#/input/a~1b/0/~0", "detail": "no"}
    assert fault((), "no") == {"pointer": "#", "detail": "no"}


def test_kinds_have_names_of_their_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert all(400 <= kind.status < 600 for kind in KINDS)
