"""The way over from a synchronous service that docs/migrating.md shows, step by step: its code, run on real parts."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from fastapi import FastAPI

from actors import TerminalError
from actors.client import AsyncHeadrace, Patience
from actors.engines import Scripted
from actors.replies import Delta
from actors.runtime.settings import Settings
from tests.nats_servers import Servers
from tests.serving import listening, settings_for, until_ready, working

GUIDE = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text()
SHOWN: dict[str, str] = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", GUIDE, re.DOTALL))
"""The modules of the guide, by name."""
ASK = {"text": "a long text about mills"}
SUMMARY = {"text": "Summarize this: a long text about mills, in short"}
OLD, NEW = "summaries:summaries", "speaking:summaries"
HERE = "http://127.0.0.1:8000"


class Model(ModuleType):
    """The model that the service calls; a prompt with `nonsense` in it is an error that stays one."""

    def __init__(self) -> None:
        super().__init__("model")
        self.asked: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()

    async def generate(self, prompt: str) -> str:
        self.asked[prompt] += 1
        await self.gate.wait()
        if "nonsense" in prompt:
            raise TerminalError("nobody can summarize that")
        return f"{prompt}, in short"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    model = Model()
    monkeypatch.setitem(sys.modules, "model", model)
    return model


@pytest.fixture
def shown(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the guide's modules are imported from."""
    _write(tmp_path, HERE)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in SHOWN:
        sys.modules.pop(name, None)


@asynccontextmanager
async def headrace_for(shown: Path, servers: Servers, *pipelines: str) -> AsyncIterator[tuple[Settings, str]]:
    """Headrace with these pipelines, where the service looks for it."""
    settings = settings_for(servers).model_copy(update={"pipelines": pipelines})
    async with listening(settings, patience=1.0) as url, httpx.AsyncClient(base_url=url) as http:
        await until_ready(http)
        _write(shown, url)
        yield settings, url


def _write(folder: Path, url: str) -> None:
    """The modules of the guide, for this Headrace."""
    for name, code in SHOWN.items():
        (folder / f"{name}.py").write_text(code.replace(HERE, url))


@asynccontextmanager
async def service(name: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service as it stands after a step."""
    for other in ("waiting", "accepting"):  # a client that was closed is not opened again
        sys.modules.pop(other, None)
    app: FastAPI = importlib.import_module(name).app
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://it") as http:
        yield http


def test_each_step_is_there() -> None:
    assert list(SHOWN) == ["before", "summaries", "waiting", "accepting", "speaking"]
    assert HERE in SHOWN["waiting"]


async def test_the_same_route_answers_as_it_did_before(shown: Path, r1: Servers) -> None:
    async with headrace_for(shown, r1, OLD) as (settings, _), working(settings, "summarize"):
        for name in ("before", "waiting", "accepting"):
            async with service(name) as http:
                answer = await http.post("/summaries", json=ASK)
                assert (answer.status_code, answer.json()) == (200, SUMMARY), name
                assert (await http.post("/summaries", json={"text": 7})).status_code == 422


async def test_who_asks_again_with_a_key_gets_the_answer_of_the_first_attempt(
    shown: Path, model: Model, r1: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = {"Idempotency-Key": "mine"}
    async with (
        headrace_for(shown, r1, OLD) as (settings, _),
        working(settings, "summarize"),
        service("waiting") as http,
    ):
        monkeypatch.setattr(sys.modules["waiting"], "WAIT_S", 1)
        model.gate.clear()
        late = await http.post("/summaries", json=ASK, headers=key)
        assert late.status_code == 504
        assert "the same Idempotency-Key" in late.json()["detail"]
        model.gate.set()
        monkeypatch.setattr(sys.modules["waiting"], "WAIT_S", 25)
        again = await http.post("/summaries", json=ASK, headers=key)
        assert (again.status_code, again.json()) == (200, SUMMARY)
        failed = await http.post("/summaries", json={"text": "nonsense"})
        assert failed.status_code == 502
        assert "nobody can summarize that" in failed.json()["detail"]
    assert set(model.asked.values()) == {1}


async def test_when_nothing_can_be_stored_the_route_says_when_to_come_back(
    shown: Path, r1: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        headrace_for(shown, r1, OLD) as (_, url),
        service("waiting") as http,
        AsyncHeadrace(url, patience=Patience(tries=1)) as impatient,
    ):
        monkeypatch.setattr(sys.modules["waiting"], "headrace", impatient)
        await r1.kill()
        answer = await http.post("/summaries", json=ASK)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1


async def test_who_asks_for_it_gets_an_address_at_once(shown: Path, r1: Servers) -> None:
    async with headrace_for(shown, r1, OLD) as (settings, url), service("accepting") as http:
        accepted = await http.post("/summaries", json=ASK, headers={"Prefer": "respond-async"})
        assert accepted.status_code == 202
        place, id = accepted.headers["Location"], accepted.json()["id"]
        assert (await http.get(place)).json() == {"id": id, "status": "queued", "answer": None}
        async with working(settings, "summarize"), AsyncHeadrace(url) as headrace:
            await headrace.wait(id)
        assert (await http.get(place)).json() == {"id": id, "status": "completed", "answer": SUMMARY}


async def test_a_stage_that_speaks_takes_over_while_the_old_one_finishes_its_jobs(shown: Path, r1: Servers) -> None:
    async with headrace_for(shown, r1, OLD) as (_, url), AsyncHeadrace(url) as headrace:
        began = await headrace.submit("summaries", ASK)
    speaking = importlib.import_module("speaking")
    object.__setattr__(speaking.summarize_aloud, "uses", Scripted(says="In short: mills."))
    async with (
        headrace_for(shown, r1, NEW, OLD) as (settings, url),
        AsyncHeadrace(url) as headrace,
        working(settings, "summarize", "summarize_aloud"),
    ):
        job = await headrace.submit("summaries", ASK)
        said = [event.text async for event in headrace.events(job.id) if isinstance(event, Delta)]
        assert "".join(said) == "In short: mills."
        assert await headrace.result(job.id) == {"text": "In short: mills."}
        assert await headrace.result(began.id) == SUMMARY
