"""A third party makes up requests from the OpenAPI document, right and wrong ones: none of them is a server error."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok

from tests.nats_servers import Servers
from tests.pipelines import TALKS, talker
from tests.serving import listening, settings_for, until_ready, working

EXAMPLES = 5
"""So many requests are made up for each operation, of each of two kinds."""

DONE = {"Prefer": "wait=50"}
STAGES = ("prepare", "recite", "applaud", "talk")


@pytest.fixture
def decided() -> Iterator[None]:
    """The engine calls no function, whatever schema it is offered."""
    talker.says_structured = lambda asked: {"calls": []}
    yield
    talker.says_structured = None


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("decided")
async def test_no_request_that_can_be_made_up_is_a_server_error(r1: Servers) -> None:
    asked = settings_for(r1).model_copy(update={"pipelines": ("tests.pipelines:recital", *TALKS)})
    async with listening(asked) as url, httpx.AsyncClient(base_url=url, timeout=60) as http, working(asked, *STAGES):
        await until_ready(http)
        done = await http.post("/v1/pipelines/recital/jobs", json={"input": {"text": "go"}}, headers=DONE)
        assert done.json()["status"] == "completed"
        response = (await http.post("/v1/responses", json={"model": "chat", "input": "go"})).json()["id"]
        answered = await asyncio.to_thread(_ask_everything, url, done.json()["id"], response)
    errors = {one: status for one, status in answered if status >= 500}
    assert errors == {}
    statuses = Counter(status for _, status in answered)
    assert statuses[200] > 30, f"hardly anything got through the door: {statuses}"
    assert {202, 400, 404, 409, 422} <= statuses.keys()


def _ask_everything(url: str, job: str, response: str) -> list[tuple[str, int]]:
    """What every operation of the document was asked, and the status of each answer."""
    answered: list[tuple[str, int]] = []  # every second request is aimed
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @seed(20261123)
            @settings(
                max_examples=EXAMPLES,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Case[Any]) -> None:
                if len(answered) % 2 and case.method != "DELETE":
                    _aim(case, job, response)
                answer = case.call(base_url=url, timeout=60)
                answered.append((f"{case.method} {case.formatted_path} {case.query} {case.body!r}", answer.status_code))

            try:
                ask()
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE  # there is nothing that could be wrong with this operation
    return answered


def _aim(case: Case[Any], job: str, response: str) -> None:
    """Let it be about something that there is: ids and models are not found by chance."""
    for name in case.path_parameters or {}:
        case.path_parameters[name] = {"model": "chat"}.get(name, response if "responses" in case.path else job)
    if "jobs" in (case.query or {}):
        case.query["jobs"] = job
    if isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = "chat"
