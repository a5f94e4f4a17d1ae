"""The stock `openai` client against the ingress, on a real server, with real workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
import openai
import pytest
from openai import AsyncOpenAI, AsyncStream, DefaultAsyncHttpxClient
from openai.types.responses import Response, ResponseStreamEvent

from actors.client import AsyncHeadrace
from actors.contracts.events import Completed, Delta, HandOff, StepStarted
from actors.contracts.limits import LIMITS, Limits
from actors.contracts.subjects import LOCAL
from actors.engines.scripted import Cue, tokens_of
from actors.journal import Journal
from actors.journal.shelf import Shelf
from tests.nats_servers import Servers
from tests.pipelines import SPEECH, TALKS, talker
from tests.serving import listening, settings_for, stored, until_ready, working
from tests.shown import block

MODEL = "chat"
ASK: dict[str, Any] = {"model": MODEL, "input": "Speak."}
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Speak."}]}


@pytest.fixture
def gate() -> Iterator[asyncio.Event]:
    """While it is not set, the engine says nothing."""
    talker.gate = asyncio.Event()
    yield talker.gate
    talker.gate = None


@pytest.fixture
def slow() -> Iterator[None]:
    """The engine takes its time, so that a stream can be cut in the middle."""
    talker.token_s = 0.05
    yield
    talker.token_s = 0.0


class LosesAnswers(httpx2.AsyncHTTPTransport):
    """Loses the first answers on their way to the client."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._left = times

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = await super().handle_async_request(request)
        if self._left:
            self._left -= 1
            await answer.aclose()
            raise httpx2.ReadError("the connection was lost", request=request)
        return answer


@asynccontextmanager
async def serving(servers: Servers, *stages: str) -> AsyncIterator[AsyncOpenAI]:
    """A client of an installation that chats."""
    settings = settings_for(servers).model_copy(update={"pipelines": TALKS})
    async with listening(settings) as url, httpx.AsyncClient(base_url=url) as http:
        await until_ready(http)
        async with working(settings, *stages), AsyncOpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
            yield client


async def until_done(client: AsyncOpenAI, id: str) -> Response:
    async with asyncio.timeout(20):
        while (response := await client.responses.retrieve(id)).status in ("queued", "in_progress"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return response


def text_of(events: list[ResponseStreamEvent]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def kinds(events: list[ResponseStreamEvent]) -> list[str]:
    """The types of events, with text that came in several pieces once."""
    found = [event.type.removeprefix("response.") for event in events]
    return [kind for at, kind in enumerate(found) if at == 0 or kind != found[at - 1]]


WHOLE = [
    "created",
    "queued",
    "in_progress",
    "output_item.added",
    "content_part.added",
    "output_text.delta",
    "output_text.done",
    "content_part.done",
    "output_item.done",
    "completed",
]


async def test_models_are_the_pipelines_that_chat_and_the_name_of_the_language_model(r1: Servers) -> None:
    async with serving(r1) as client:
        assert [model.id async for model in client.models.list()] == [MODEL, "SmolLM2-135M-Instruct"]
        assert (await client.models.retrieve(MODEL)).object == "model"
        with pytest.raises(openai.NotFoundError) as refused:
            await client.models.retrieve("gpt-1")
        assert refused.value.code == "model_not_found"


async def test_a_response_is_answered_with_its_outcome(r1: Servers) -> None:
    async with serving(r1, "talk") as client:
        response = await client.responses.create(
            **ASK, instructions="Be brief.", metadata={"team": "a"}, temperature=0.5, max_output_tokens=500
        )
        assert response.status == "completed"
        assert response.output_text == SPEECH
        assert (response.model, response.instructions, response.metadata) == (MODEL, "Be brief.", {"team": "a"})
        assert (response.temperature, response.max_output_tokens) == (0.5, 500)
        assert response.usage is not None
        assert response.usage.output_tokens == len(tokens_of(SPEECH))
        assert response.completed_at is not None
        assert await client.responses.retrieve(response.id) == response


async def test_a_response_that_ran_out_of_tokens_is_incomplete(r1: Servers) -> None:
    async with serving(r1, "talk") as client:
        response = await client.responses.create(**ASK, max_output_tokens=3)
        assert response.status == "incomplete"
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == "max_output_tokens"
        assert SPEECH.startswith(response.output_text)
        assert response.output_text


async def test_a_response_in_the_background_is_queued_at_once_and_found_later(r1: Servers, gate: asyncio.Event) -> None:
    async with serving(r1, "talk") as client:
        queued = await client.responses.create(**ASK, background=True)
        assert queued.status == "queued"
        gate.set()
        done = await until_done(client, queued.id)
        assert (done.status, done.output_text, done.background) == ("completed", SPEECH, True)


async def test_a_streamed_response_is_told_in_the_events_of_openai(r1: Servers) -> None:
    async with serving(r1, "talk") as client:
        events = [event async for event in await client.responses.create(**ASK, stream=True)]
        assert kinds(events) == [kind for kind in WHOLE if kind != "queued"]
        assert text_of(events) == SPEECH
        async with client.responses.stream(**ASK) as stream:
            assert (await stream.get_final_response()).output_text == SPEECH


@pytest.mark.usefixtures("slow")
async def test_a_stream_that_was_cut_goes_on_after_a_sequence_number_and_can_be_had_whole(r1: Servers) -> None:
    async with serving(r1, "talk") as client:
        stream = await client.responses.create(**ASK, background=True, stream=True)
        seen: list[ResponseStreamEvent] = []
        async for event in stream:
            seen.append(event)
            if len([e for e in seen if e.type == "response.output_text.delta"]) == 3:
                break
        await stream.close()
        assert seen[0].type == "response.created"
        id = seen[0].response.id

        rest = [
            e async for e in await client.responses.retrieve(id, stream=True, starting_after=seen[-1].sequence_number)
        ]
        assert 0 < len(text_of(seen)) < len(SPEECH)
        assert text_of(seen) + text_of(rest) == SPEECH
        assert kinds([*seen, *rest]) == WHOLE
        numbers = [event.sequence_number for event in (*seen, *rest)]
        assert numbers == sorted(set(numbers))

        whole = [e async for e in await client.responses.retrieve(id, stream=True)]
        assert kinds(whole) == WHOLE
        assert text_of(whole) == SPEECH
        told = {e.sequence_number: e for e in whole if e.type != "response.output_text.delta"}
        assert told == {e.sequence_number: e for e in (*seen, *rest) if e.type != "response.output_text.delta"}
        for at, event in enumerate(whole):
            after = await client.responses.retrieve(id, stream=True, starting_after=event.sequence_number)
            assert [e async for e in after] == whole[at + 1 :]
        beyond = await client.responses.retrieve(id, stream=True, starting_after=numbers[-1] + 10_000)
        assert [e async for e in beyond] == []
        async with client.responses.stream(response_id=id, starting_after=numbers[4]) as again:
            assert (await again.get_final_response()).output_text == SPEECH


async def test_sequence_numbers_are_made_of_the_numbers_of_the_log(r1: Servers, journal_r1: Journal) -> None:
    async with serving(r1, "talk") as client:
        response = await client.responses.create(**ASK, background=True)
        await until_done(client, response.id)
        records = await journal_r1.reader.job(LOCAL, response.id.removeprefix("resp_"))
        numbers = {e.type: e.sequence_number async for e in await client.responses.retrieve(response.id, stream=True)}
    made_of = {type(record.event): record.event.n for record in records}
    assert numbers["response.created"] == 16 * made_of[HandOff] == 16
    assert numbers["response.queued"] == 17
    assert numbers["response.in_progress"] == 16 * made_of[StepStarted]
    assert numbers["response.output_text.delta"] == 16 * made_of[Delta]
    assert numbers["response.completed"] // 16 == made_of[Completed]


async def test_text_that_was_forgotten_comes_from_the_answer(r1: Servers, journal_r1: Journal) -> None:
    async with serving(r1, "talk") as client:
        response = await client.responses.create(**ASK)
        before = [e async for e in await client.responses.retrieve(response.id, stream=True)]
        for record in await journal_r1.reader.job(LOCAL, response.id.removeprefix("resp_")):
            if record.is_text:
                await journal_r1.signals.api("STREAM.MSG.DELETE.JOBS", {"seq": record.seq})
        after = [e async for e in await client.responses.retrieve(response.id, stream=True)]
        assert await client.responses.retrieve(response.id) == response
    assert text_of(after) == SPEECH
    assert kinds(after) == kinds(before)
    assert after[-1] == before[-1]


async def test_a_response_that_runs_is_cancelled_twice_over_with_the_same_end(r1: Servers, gate: asyncio.Event) -> None:
    async with serving(r1, "talk") as client:
        stream = await client.responses.create(**ASK, background=True, stream=True)
        events = aiter(stream)
        created = await anext(events)
        assert created.type == "response.created"
        while (await anext(events)).type != "response.in_progress":
            pass
        cancelled = await client.responses.cancel(created.response.id)
        assert cancelled.status == "cancelled"
        assert await client.responses.cancel(created.response.id) == cancelled
        assert [e.type async for e in events if e.type == "response.completed"] == []


async def test_what_nobody_runs_is_cancelled_at_once_and_only_in_the_background(r1: Servers) -> None:
    async with serving(r1) as client:
        queued = await client.responses.create(**ASK, background=True)
        assert (await client.responses.cancel(queued.id)).status == "cancelled"
    async with serving(r1, "talk") as client:
        done = await client.responses.create(**ASK)
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.cancel(done.id)
        assert refused.value.code == "not_in_background"


async def test_a_deleted_response_is_gone_from_the_log(r1: Servers, journal_r1: Journal) -> None:
    async with serving(r1, "talk") as client:
        done = await client.responses.create(**ASK)
        assert await stored(journal_r1) > 0
        await client.responses.delete(done.id)
        assert await stored(journal_r1) == 0
        for call in (client.responses.retrieve, client.responses.cancel, client.responses.delete):
            with pytest.raises(openai.NotFoundError) as refused:
                await call(done.id)
            assert refused.value.code == "response_not_found"


async def test_a_response_that_runs_is_stopped_and_then_deleted(
    r1: Servers, journal_r1: Journal, gate: asyncio.Event
) -> None:
    async with serving(r1, "talk") as client:
        events = aiter(await client.responses.create(**ASK, background=True, stream=True))
        created = await anext(events)
        assert created.type == "response.created"
        while (await anext(events)).type != "response.in_progress":
            pass
        await client.responses.delete(created.response.id)
        assert await stored(journal_r1) == 0


async def test_the_same_key_makes_one_response_and_another_body_under_it_is_refused(
    r1: Servers, journal_r1: Journal
) -> None:
    async with serving(r1, "talk") as client:
        key = {"Idempotency-Key": "once"}
        first = await client.responses.create(**ASK, extra_headers=key)
        before = await stored(journal_r1)
        assert await client.responses.create(**ASK, extra_headers=key) == first
        assert await stored(journal_r1) == before
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            await client.responses.create(model=MODEL, input="Sing.", extra_headers=key)
        assert refused.value.code == "key_reused"


async def test_a_request_that_the_client_repeats_by_itself_makes_one_job_when_it_has_a_key(
    r1: Servers, journal_r1: Journal
) -> None:
    async with serving(r1) as client, DefaultAsyncHttpxClient(transport=LosesAnswers(2)) as lossy:
        unlucky = client.with_options(http_client=lossy, max_retries=2)
        response = await unlucky.responses.create(**ASK, background=True, extra_headers={"Idempotency-Key": "twice"})
        assert response.status == "queued"
        assert await stored(journal_r1) == 1


@pytest.mark.usefixtures("slow")
async def test_a_stream_goes_on_at_another_replica(r1: Servers) -> None:
    async with serving(r1, "talk") as client, serving(r1) as other:
        stream = await client.responses.create(**ASK, background=True, stream=True)
        seen: list[ResponseStreamEvent] = []
        async for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
        assert seen[0].type == "response.created"
        after = seen[-1].sequence_number
        rest = [e async for e in await other.responses.retrieve(seen[0].response.id, stream=True, starting_after=after)]
        await stream.close()
    assert text_of([*seen, *rest]) == SPEECH
    assert kinds([*seen, *rest]) == WHOLE


async def test_a_chat_completion_is_answered_whole(r1: Servers) -> None:
    async with serving(r1, "talk") as client:
        completion = await client.chat.completions.create(**CHAT, seed=7, temperature=0.2, stop=["wheel"])
        [choice] = completion.choices
        assert choice.message.content == SPEECH.partition("wheel")[0]
        assert choice.finish_reason == "stop"
        short = await client.chat.completions.create(**CHAT, max_completion_tokens=2)
        assert short.choices[0].finish_reason == "length"
        assert short.usage is not None
        assert short.usage.completion_tokens == 2


async def test_a_chat_completion_is_streamed_in_chunks_with_its_usage(r1: Servers) -> None:
    async with serving(r1, "talk") as client:
        plain = [chunk async for chunk in await client.chat.completions.create(**CHAT, stream=True)]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in plain) == SPEECH
        assert plain[0].choices[0].delta.role == "assistant"
        assert plain[-1].choices[0].finish_reason == "stop"
        assert {chunk.usage for chunk in plain} == {None}
        assert len({chunk.id for chunk in plain}) == 1
        options: Any = {"include_usage": True}
        told = [c async for c in await client.chat.completions.create(**CHAT, stream=True, stream_options=options)]
        assert told[-1].choices == []
        assert told[-1].usage is not None
        assert told[-1].usage.completion_tokens == len(tokens_of(SPEECH))


async def test_who_has_all_its_streams_is_refused_before_anything_is_stored(r1: Servers, journal_r1: Journal) -> None:
    async with serving(r1, "talk") as client:
        shelf = Shelf(journal_r1.signals, LIMITS, Limits)
        await shelf.put(LOCAL, Limits(readers=1), expect=0)
        talker.gate = asyncio.Event()
        try:
            stream = await client.responses.create(**ASK, stream=True)
            refused = await until_limited(client, stream)
            before = await stored(journal_r1)
            with pytest.raises(openai.RateLimitError):
                await client.chat.completions.create(**CHAT, stream=True)
            assert await stored(journal_r1) == before
        finally:
            talker.gate.set()
            talker.gate = None
        assert (refused.code, refused.response.headers["Retry-After"]) == ("quota", "5")
        assert [event async for event in stream][-1].type == "response.completed"


async def test_of_many_streams_that_are_asked_for_at_once_no_more_are_opened_than_there_may_be(
    r1: Servers, journal_r1: Journal
) -> None:
    async with serving(r1, "talk") as client:
        shelf = Shelf(journal_r1.signals, LIMITS, Limits)
        seq = await shelf.put(LOCAL, Limits(readers=1), expect=0)
        talker.gate = asyncio.Event()
        try:
            first = await client.responses.create(**ASK, stream=True)
            await until_limited(client, first)
            await shelf.put(LOCAL, Limits(readers=2), expect=seq)
            found: list[Any] = []
            async with asyncio.timeout(20):
                while all(isinstance(one, openai.RateLimitError) for one in found):
                    asked = [client.responses.create(**ASK, stream=True) for _ in range(2)]
                    chat = client.chat.completions.create(**CHAT, stream=True)
                    found = await asyncio.gather(*asked, chat, return_exceptions=True)
        finally:
            talker.gate.set()
            talker.gate = None
        opened = [one for one in found if not isinstance(one, openai.RateLimitError)]
        for stream in (first, *opened):
            await stream.close()
        assert len(opened) == 1


async def until_limited(client: AsyncOpenAI, first: AsyncStream[ResponseStreamEvent]) -> openai.RateLimitError:
    """Read along until that is one stream too many: what was set is known a little later."""
    created = await anext(first)
    assert created.type == "response.created"
    async with asyncio.timeout(20):
        while True:
            try:
                await (await client.responses.retrieve(created.response.id, stream=True)).close()
            except openai.RateLimitError as refused:
                return refused


async def test_what_cannot_be_generated_is_told_as_a_failure(r1: Servers) -> None:
    talker.cues = (Cue("fail", times=100),)
    try:
        async with serving(r1, "talk") as client:
            response = await client.responses.create(**ASK)
            assert response.status == "failed"
            assert response.error is not None
            assert response.error.code == "server_error"
            assert "told to fail" in response.error.message
            events = [e async for e in await client.responses.create(**ASK, stream=True)]
            assert events[-1].type == "response.failed"
            with pytest.raises(openai.InternalServerError, match="told to fail"):
                await client.with_options(max_retries=2).chat.completions.create(**CHAT)
            with pytest.raises(openai.APIError, match="told to fail"):
                [chunk async for chunk in await client.chat.completions.create(**CHAT, stream=True)]
    finally:
        talker.cues = ()


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({**ASK, "reasoning": {"effort": "low"}}, "reasoning"),
        ({**ASK, "conversation": "conv_1"}, "conversation"),
        ({**ASK, "temparature": 1}, "temparature"),
        ({**CHAT, "n": 2}, "n"),
        ({**CHAT, "logprobs": True}, "logprobs"),
        ({**CHAT, "presence_penalty": 1}, "presence_penalty"),
    ],
)
async def test_what_is_not_supported_is_refused_by_name_and_leaves_no_trace(
    r1: Servers, journal_r1: Journal, asked: dict[str, Any], param: str
) -> None:
    async with serving(r1) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.post("/chat/completions" if "messages" in asked else "/responses", body=asked, cast_to=object)
        assert (refused.value.code, refused.value.param) == ("unsupported_parameter", param)
        assert await stored(journal_r1) == 0


async def test_a_prompt_that_is_too_long_for_the_model_is_refused_at_the_door(
    r1: Servers, journal_r1: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talker, "takes", 50)
    async with serving(r1, "talk") as client:
        long = "wheel " * 60
        for path, body, param in (
            ("/responses", {**ASK, "input": long}, "input"),
            ("/responses", {**ASK, "instructions": long}, "input"),
            ("/chat/completions", {**CHAT, "messages": [{"role": "user", "content": long}]}, "messages"),
            ("/responses", {**ASK, "max_output_tokens": 51}, "max_output_tokens"),
            ("/chat/completions", {**CHAT, "max_tokens": 51}, "max_tokens"),
        ):
            with pytest.raises(openai.BadRequestError) as refused:
                await client.post(path, body=body, cast_to=object)
            assert (refused.value.code, refused.value.param) == ("context_length_exceeded", param)
        assert await stored(journal_r1) == 0
        said: Any = [{"role": "assistant", "content": long}, {"role": "user", "content": "wheel " * 10}]
        assert (await client.chat.completions.create(model=MODEL, messages=said, max_tokens=50)).choices


async def test_every_error_under_these_paths_is_one_of_openai(r1: Servers) -> None:
    async with serving(r1) as client:
        refusals: list[tuple[str, str, Any, int, str]] = [
            ("POST", "/responses", {"model": MODEL}, 400, "invalid_value"),
            ("POST", "/responses", {"model": "gpt-1", "input": "go"}, 404, "model_not_found"),
            ("POST", "/responses", [1], 400, "invalid_value"),
            ("POST", "/chat/completions", {**CHAT, "messages": []}, 400, "invalid_value"),
            ("POST", "/chat/completions", {**CHAT, "temperature": 3}, 400, "invalid_value"),
            ("GET", "/responses/resp_x", None, 404, "response_not_found"),
            ("GET", f"/responses/{'a' * 26}", None, 404, "response_not_found"),
            ("GET", f"/responses/resp_{'a' * 26}?stream=true&starting_after=x", None, 400, "invalid_value"),
            ("GET", f"/responses/resp_{'a' * 26}/input_items", None, 404, "response_not_found"),
            ("PUT", "/responses", None, 405, "bad_method"),
            ("GET", "/chat/completions", None, 405, "bad_method"),
        ]
        async with httpx.AsyncClient(base_url=str(client.base_url)) as http:
            for method, path, body, status, code in refusals:
                answer = await http.request(method, path.removeprefix("/"), json=body)
                error = json.loads(answer.content)["error"]
                assert (answer.status_code, error["code"], set(error)) == (
                    status,
                    code,
                    {"message", "type", "param", "code"},
                ), path
            broken = await http.post("responses", content=b"{", headers={"Content-Type": "application/json"})
            assert broken.json()["error"]["code"] == "malformed"


async def test_what_readme_shows_works(r1: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    code = block("from openai")
    async with serving(r1, "talk") as client:
        here = code.replace("http://127.0.0.1:8000/v1", str(client.base_url))
        assert here != code
        await asyncio.to_thread(exec, compile(here, "README.md", "exec"), {})
    assert capsys.readouterr().out.count(SPEECH) == 2


async def test_one_worker_serves_both_pipelines_of_its_stage(r1: Servers) -> None:
    async with serving(r1, "talk") as client, AsyncHeadrace(str(client.base_url).removesuffix("/v1/")) as native:
        accepted = await native.submit("talks", {"text": "Speak."})
        response = await client.responses.create(**ASK)
        assert response.output_text == SPEECH
        assert (await native.result(accepted.id)) == {"text": SPEECH}
        stages = await native.stages()
    assert [(stage.stage, stage.pipelines) for stage in stages] == [("talk", ("talks", "chat"))]


async def test_a_job_that_came_in_otherwise_is_no_response(r1: Servers) -> None:
    async with serving(r1) as client, httpx.AsyncClient(base_url=str(client.base_url)) as http:
        native = await http.post(
            f"pipelines/{MODEL}/jobs", json={"input": {"messages": [{"role": "user", "content": "a"}]}}
        )
        assert native.status_code == 202
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(f"resp_{native.json()['id']}")
