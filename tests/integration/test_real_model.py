"""The pipeline `analysis` with a real model in real vLLM, on real Ray Serve and a real nats-server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from actors.client import AsyncHeadrace, Headrace, Patience
from actors.engines import smollm2
from actors.replies import Completed, Delta, Event, Gap, HandedOff, Progress, StepPart, StepStarted
from actors.runtime.settings import DEFAULT_PIPELINES
from examples.summaries import report
from tests.checked_pipeline import CHECKER
from tests.installation import ROOT, Installation, installation
from tests.shown import block
from tests.streams import read, text_of
from tests.tiny_model import save_tiny_model

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

PATIENCE = Patience(tries=120)


@pytest.fixture(scope="module")
def model() -> str:
    """The small model, prepared where `make run` finds it too."""
    return str(smollm2.prepare(ROOT / ".headrace" / "models"))


@pytest.fixture(scope="module")
def checker() -> Path:
    """The tiny model that checks what the small one says."""
    if not CHECKER.is_dir():
        made = CHECKER.with_name(".tiny.unfinished")
        made.mkdir(parents=True, exist_ok=True)
        save_tiny_model(made).rename(CHECKER)
    return CHECKER


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, model: str, checker: Path) -> Iterator[Installation]:
    """One start for all: the pipelines that come with Headrace, and both examples."""
    pipelines = (*DEFAULT_PIPELINES, "examples.summaries:summaries", "tests.checked_pipeline:checked")
    with installation(tmp_path_factory.mktemp("data"), "--model", model, pipelines=pipelines) as started:
        yield started


def assert_ordered(events: list[Event]) -> None:
    numbers = [event.n for event in events]
    assert numbers == sorted(set(numbers))
    assert not any(isinstance(event, Gap) for event in events)
    assert isinstance(events[-1], Completed)


def test_the_start_runs_a_sample_job_and_streams_its_text(running: Installation) -> None:
    said = running.said
    begun = next(at for at, line in enumerate(said) if "write: started" in line)
    ended = next(at for at, line in enumerate(said) if "completed (" in line)
    answer = next(line for line in said if line.startswith("answer")).removeprefix("answer").strip()
    assert answer in "\n".join(said[begun + 1 : ended]), "the answer was not streamed before the outcome"


async def test_a_question_is_retrieved_calculated_written_and_polished(running: Installation) -> None:
    async with AsyncHeadrace(running.url, patience=PATIENCE) as client:
        accepted = await client.submit("analysis", {"text": "What is a tailrace, and what is 7 times 45?"})
        events = await read(client, accepted.id)
    assert_ordered(events)
    stages = [event.stage for event in events if isinstance(event, HandedOff)]
    assert stages == ["retrieve", "write", "call_tools", "write", "polish"]
    assert [event.key for event in events if isinstance(event, StepPart)] == ["choice", "call 0"]
    told = [(event.message, event.done, event.total) for event in events if isinstance(event, Progress)]
    assert told == [
        ("retrieving", None, None),
        ("passages", 3, 3),
        ("choosing tools", None, None),
        ("calling calculator", None, None),
    ]
    answer = events[-1].answer if isinstance(events[-1], Completed) else {}
    assert "mills/tailrace" in answer["sources"]
    assert answer["calls"] == ["calculator(7 * 45) = 315"]
    assert answer["text"] in " ".join(text_of(events).split(" "))
    assert answer["words"] == len(answer["text"].split())


async def test_a_model_makes_several_calls_at_once(running: Installation) -> None:
    async with AsyncHeadrace(running.url, patience=PATIENCE) as client:
        accepted = await client.submit("analysis", {"text": "What is 3 times 20, and what is 5 plus 6?"})
        events = [event async for event in client.events(accepted.id)]
    assert_ordered(events)
    answer = events[-1].answer if isinstance(events[-1], Completed) else {}
    assert {"calculator(3 * 20) = 60", "calculator(5 + 6) = 11"} <= set(answer["calls"])


@pytest.mark.long
async def test_a_page_inside_is_not_read_for_a_stranger(running: Installation) -> None:
    async with AsyncHeadrace(running.url, patience=PATIENCE) as client:
        accepted = await client.submit("analysis", {"text": f"What does {running.url}/v1/stages say?"})
        answer = await client.result(accepted.id)
    assert any("not public; it is not asked" in call for call in answer["calls"])


async def test_a_folder_is_summarised_and_said_again_without_inference(running: Installation, tmp_path: Path) -> None:
    (tmp_path / "mill.txt").write_text("A tailrace carries the water away from the wheel and back to the river.")
    (tmp_path / "job.md").write_text("A job is durable from the moment it is accepted.")

    def reported() -> str:
        with Headrace(running.url, patience=PATIENCE) as headrace:
            return report(tmp_path, headrace)

    first = await asyncio.to_thread(reported)
    assert [line for line in first.splitlines() if line.startswith("#")] == ["# Summaries", "## mill.txt", "## job.md"]
    assert all(len(part.split("\n\n")[1]) > 10 for part in first.split("## ")[1:])
    assert await asyncio.to_thread(reported) == first


@pytest.mark.long
async def test_one_model_drafts_and_another_checks(running: Installation) -> None:
    async with AsyncHeadrace(running.url, patience=PATIENCE) as client:
        accepted = await client.submit("checked", {"text": "Explain to a child what a mill is."})
        events = [event async for event in client.events(accepted.id)]
    assert_ordered(events)
    stages = [event.stage for event in events if isinstance(event, HandedOff)]
    assert stages in (["write", "check"], ["write", "check"] * 2, ["write", "check"] * 3)
    answer = events[-1].answer if isinstance(events[-1], Completed) else {}
    assert answer["text"].strip()
    assert len(running.processes("ray::ServeReplica:check:")) == 1


def test_the_client_that_readme_shows_works(running: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    code = block("from actors.client import Headrace\n")
    exec(compile(code.replace("http://127.0.0.1:8000", running.url), "README.md", "exec"), {})
    assert "'sources': ['mills/tailrace'" in capsys.readouterr().out


async def test_jobs_at_once_are_generated_in_one_batch_and_each_is_whole(running: Installation) -> None:
    async with AsyncHeadrace(running.url, patience=PATIENCE) as client:

        async def ask(subject: str) -> list[Event]:
            accepted = await client.submit("analysis", {"text": f"What is a {subject}?"})
            return await read(client, accepted.id)

        whole = await asyncio.gather(
            *(ask(word) for word in ("tailrace", "headrace", "millpond", "sluice", "job", "log"))
        )
    for events in whole:
        assert_ordered(events)
        assert text_of(events).strip()


async def test_a_killed_engine_goes_on_from_the_stored_tokens(running: Installation) -> None:
    async with AsyncHeadrace(running.url, patience=PATIENCE) as client:
        accepted = await client.submit("analysis", {"text": "Explain at length what happens when a worker dies."})
        events = client.events(accepted.id)
        seen = [await anext(events)]
        while not isinstance(seen[-1], Delta):
            seen.append(await anext(events))
        victim = running.replica("write")
        engine = [victim, *victim.children(recursive=True)]
        before = text_of(seen)
        victim.send_signal(signal.SIGKILL)
        seen += [event async for event in events]
        job = await client.job(accepted.id)
    assert_ordered(seen)
    assert text_of(seen).startswith(before)
    first, second = [event for event in seen if isinstance(event, StepStarted) and event.stage == "write"]
    assert (first.attempt, second.attempt) == (1, 2)
    assert second.from_ > 0
    answer = seen[-1].answer if isinstance(seen[-1], Completed) else {}
    assert answer["text"] in text_of(seen)
    assert job.usage.output_tokens > second.from_
    _, alive = psutil.wait_procs(engine, timeout=10)
    assert not alive, "the killed replica left its engine behind"


async def test_the_openai_client_chats_with_the_engine_of_analysis(running: Installation) -> None:
    engines = [process.pid for process in running.processes("ray::ServeReplica:write:")]
    async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key="-") as client:
        assert [model.id async for model in client.models.list()] == ["chat", smollm2.NAME]
        asked: list[ChatCompletionMessageParam] = [
            {"role": "user", "content": "What is a mill? Answer in one sentence."}
        ]
        plain = await client.chat.completions.create(model="chat", messages=asked, temperature=0, max_tokens=40)
        chunks = await client.chat.completions.create(
            model=smollm2.NAME, messages=asked, temperature=0, max_tokens=40, stream=True
        )
        said = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
        assert said == plain.choices[0].message.content
        assert said.strip()
        assert plain.usage is not None
        assert plain.usage.prompt_tokens > 8

        made = await client.responses.create(
            model="chat", input="Name some rivers.", background=True, stream=True, max_output_tokens=60
        )
        seen = []
        async for event in made:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
        await made.close()
        assert seen[0].type == "response.created"
        rest = client.responses.retrieve(seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number)
        seen += [event async for event in await rest]
        assert seen[-1].type in ("response.completed", "response.incomplete")
        text = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
        assert text == seen[-1].response.output_text
        assert text.strip()
    assert [process.pid for process in running.processes("ray::ServeReplica:write:")] == engines
    assert len(engines) == 1


@pytest.mark.long
def test_once_ends_by_itself_when_the_sample_job_is_done(model: str, tmp_path: Path) -> None:
    running = Installation(tmp_path, "--once", "--model", model)
    try:
        running.wait_for("write")  # from here on there is something that could be left behind
        started = running.children()
        assert running.wait() == 0
        _, alive = psutil.wait_procs(started, timeout=10)
        assert not alive
        assert any(line.startswith("answer") for line in running.said)
    finally:
        running.kill()
