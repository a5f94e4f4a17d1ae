from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import HTMLResponse, JSONResponse

from actors import client
from actors.client import AsyncHeadrace, Headrace, Patience
from actors.contracts.messages import Message
from actors.replies import Completed, DeadLettered, Delta, Event, Gap, HandedOff, Reset, StepStarted
from tests.unit.scripted_server import (
    A_JOB,
    ANSWER,
    JOB,
    JOB_REPLY,
    Connection,
    ScriptedServer,
    a_letter,
    problem,
    told,
)

NUMBERS = [data["n"] for _, data in A_JOB]
TEXT = "It feeds a\n\nmill."


class Question(Message):
    text: str


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def waits() -> list[float]:
    """What a client would have waited, in seconds."""
    return []


@pytest.fixture
async def headrace(server: ScriptedServer, waits: list[float]) -> AsyncIterator[AsyncHeadrace]:
    async def note(seconds: float) -> None:
        waits.append(seconds)

    async with AsyncHeadrace(server.url, sleep=note, rng=Random(7)) as headrace:
        yield headrace


@pytest.fixture
def plain(server: ScriptedServer, waits: list[float]) -> Iterator[Headrace]:
    with Headrace(server.url, sleep=waits.append, rng=Random(7)) as headrace:
        yield headrace


async def read(headrace: AsyncHeadrace, after: int = 0) -> list[Event]:
    return [event async for event in headrace.events(JOB, after=after)]


def spoken(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


class TestCancel:
    async def test_a_lost_answer_is_asked_for_again(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        story = server.tell(job=JOB_REPLY | {"status": "cancelled"}, refusals=[problem(503, "no log"), None])
        assert (await headrace.cancel(JOB, reason="enough")).status == "cancelled"
        assert story.wishes == [{"reason": "enough"}] * 2

    def test_without_asyncio_it_is_the_same(self, server: ScriptedServer, plain: Headrace) -> None:
        story = server.tell(job=JOB_REPLY | {"status": "running", "cancelling": True})
        assert plain.cancel(JOB).cancelling
        assert story.wishes == [{}]


class TestDeadLetters:
    async def test_they_come_page_by_page(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        letters = [a_letter(n * 26, stage="write" if n != "c" else "polish") for n in "bcdef"]
        server.tell(letters=letters)
        assert [letter.id[0] async for letter in headrace.dead_letters()] == list("bcdef")
        assert [letter.id[0] async for letter in headrace.dead_letters(stage="write")] == list("bdef")

    async def test_a_redrive_says_which_one_it_is(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        story = server.tell(letters=[a_letter(JOB, redriven=["x"])], refusals=[None, problem(503, "no log"), None])
        assert (await headrace.redrive(JOB, input=Question(text="how?"))).id == JOB
        assert story.wishes == [{"redrive": JOB, "number": 2, "input": {"text": "how?"}}] * 2

    def test_without_asyncio_it_is_the_same(self, server: ScriptedServer, plain: Headrace) -> None:
        story = server.tell(letters=[a_letter(n * 26) for n in "bcd"])
        assert [letter.id[0] for letter in plain.dead_letters()] == list("bcd")
        assert plain.dead_letter("b" * 26).errors[0].trace == "File write.py, line 7"
        assert plain.redrive("b" * 26, number=3).id == JOB
        assert plain.discard("c" * 26, reason="enough").id == "c" * 26
        assert story.wishes == [{"redrive": "b" * 26, "number": 3}, {"discard": "c" * 26, "reason": "enough"}]


class TestSubmit:
    async def test_a_job_is_stored_with_all_that_was_asked_for(
        self, server: ScriptedServer, headrace: AsyncHeadrace
    ) -> None:
        story = server.tell()
        job = await headrace.submit(
            "analysis", Question(text="why?"), key="k1", lane="batch", deadline=60, metadata={"team": "blue"}
        )
        assert (job.id, job.status, job.lane) == (JOB, "queued", "batch")
        assert job.links["events"] == f"/v1/events/{JOB}"
        assert story.stored == {
            "k1": {"input": {"text": "why?"}, "lane": "batch", "deadline": 60, "metadata": {"team": "blue"}}
        }

    async def test_what_is_not_asked_for_is_not_sent(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        story = server.tell()
        await headrace.submit("analysis", {"text": "why?"})
        assert list(story.stored.values()) == [{"input": {"text": "why?"}}]

    async def test_two_submits_without_a_key_are_two_jobs(
        self, server: ScriptedServer, headrace: AsyncHeadrace
    ) -> None:
        story = server.tell()
        await headrace.submit("analysis", {"text": "why?"})
        await headrace.submit("analysis", {"text": "why?"})
        assert len(story.stored) == 2

    async def test_an_answer_that_is_lost_makes_no_second_job(
        self, server: ScriptedServer, headrace: AsyncHeadrace
    ) -> None:
        story = server.tell(unanswered=2)
        job = await headrace.submit("analysis", {"text": "why?"})
        assert job.id == JOB
        assert (story.submits, len(story.stored)) == (3, 1)

    async def test_a_server_that_cannot_take_it_is_asked_again_no_sooner_than_it_says(
        self, server: ScriptedServer, headrace: AsyncHeadrace, waits: list[float]
    ) -> None:
        story = server.tell(refusals=[problem(503, "no log", retry_after=2), problem(429, "full", retry_after=5), None])
        assert (await headrace.submit("analysis", {"text": "why?"})).id == JOB
        assert (story.submits, len(story.stored)) == (3, 1)
        assert 2 < waits[0] < 3
        assert 5 < waits[1] < 6

    async def test_when_patience_runs_out_the_error_says_how_to_go_on(
        self, server: ScriptedServer, headrace: AsyncHeadrace, waits: list[float]
    ) -> None:
        story = server.tell(refusals=[problem(503, "the log does not answer", retry_after=1)] * 20)
        with pytest.raises(client.Unavailable) as raised:
            await headrace.submit("analysis", {"text": "why?"}, key="k1")
        assert str(raised.value) == (
            "the log does not answer (503); try again in 1 s with the key k1, which makes no second job"
        )
        assert (raised.value.key, raised.value.retry_after, raised.value.problem.status) == ("k1", 1, 503)
        assert story.submits == Patience().tries == len(waits) + 1

    async def test_a_wait_that_is_too_long_is_left_to_the_caller(
        self, server: ScriptedServer, headrace: AsyncHeadrace, waits: list[float]
    ) -> None:
        server.tell(refusals=[problem(429, "full", retry_after=3600)])
        with pytest.raises(client.Unavailable):
            await headrace.submit("analysis", {"text": "why?"})
        assert waits == []

    async def test_a_proxy_that_says_not_now_in_html_is_asked_again(
        self, server: ScriptedServer, headrace: AsyncHeadrace
    ) -> None:
        story = server.tell(refusals=[HTMLResponse("<h1>Service Unavailable</h1>", 503), None])
        await headrace.submit("analysis", {"text": "why?"})
        assert story.submits == 2

    async def test_a_request_that_can_never_succeed_is_sent_once(
        self, server: ScriptedServer, headrace: AsyncHeadrace, waits: list[float]
    ) -> None:
        errors = [{"loc": ["input", "text"], "msg": "Field required"}, {"pointer": "/lane", "detail": "no such lane"}]
        story = server.tell(refusals=[problem(422, "The input does not fit", errors=errors)])
        with pytest.raises(client.Refused) as raised:
            await headrace.submit("analysis", {})
        assert str(raised.value) == "The input does not fit: input.text: Field required; /lane: no such lane"
        assert (story.submits, waits) == (1, [])

    async def test_an_unknown_pipeline_names_the_known_ones(
        self, server: ScriptedServer, headrace: AsyncHeadrace
    ) -> None:
        server.tell(refusals=[problem(404, "There is no pipeline 'nope'.", known=["analysis", "echo"])])
        with pytest.raises(client.NotFound, match="no pipeline 'nope'; there are: analysis, echo"):
            await headrace.submit("nope", {})

    @pytest.mark.parametrize("input", [{"x": float("nan")}, {"x": object()}])
    async def test_what_is_no_json_is_not_sent(self, headrace: AsyncHeadrace, input: dict[str, object]) -> None:
        with pytest.raises(client.BadRequest, match="not JSON"):
            await headrace.submit("analysis", input)

    @pytest.mark.parametrize("key", ["", "a\r\nb: c", " padded ", "ключ"])
    async def test_a_key_that_is_no_header_is_not_sent(self, headrace: AsyncHeadrace, key: str) -> None:
        with pytest.raises(client.BadRequest, match="key"):
            await headrace.submit("analysis", {}, key=key)


class TestEvents:
    async def test_a_whole_job_is_read_to_its_outcome(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        server.tell()
        events = await read(headrace)
        assert [event.n for event in events] == NUMBERS
        assert spoken(events) == TEXT
        assert isinstance(events[0], HandedOff)
        assert isinstance(events[2], StepStarted)
        assert events[2].from_ == 0
        outcome = events[-1]
        assert isinstance(outcome, Completed)
        assert (outcome.answer, outcome.usage.output_tokens, outcome.id) == (ANSWER, 6, "11.110")

    @pytest.mark.parametrize("again", [0, 2])
    @pytest.mark.parametrize("ending", ["end", "break", "tear"])
    @pytest.mark.parametrize("position", range(len(A_JOB)))
    async def test_each_event_comes_exactly_once_wherever_the_stream_is_cut(
        self, server: ScriptedServer, headrace: AsyncHeadrace, position: int, ending: str, again: int
    ) -> None:
        story = server.tell(connections=[Connection(position, ending), Connection(len(A_JOB), again=again)])  # type: ignore[arg-type]
        events = await read(headrace)
        assert [event.n for event in events] == NUMBERS
        assert spoken(events) == TEXT
        last = NUMBERS[position - 1] if position else None
        assert story.places == [(None, None), (None, f"{last}.{last * 10}" if last else None)]

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.builds(Connection, st.integers(0, 4), st.sampled_from(["end", "break", "tear"]), st.integers(0, 3)),
            max_size=6,
        )
    )
    def test_each_event_comes_exactly_once_however_often_the_stream_is_cut(
        self, server: ScriptedServer, cuts: list[Connection]
    ) -> None:
        server.tell(connections=cuts)
        with Headrace(server.url, sleep=lambda _: None) as headrace:
            assert [event.n for event in headrace.events(JOB)] == NUMBERS

    async def test_a_proxy_that_does_not_know_the_way_again_yet_is_asked_again(
        self, server: ScriptedServer, headrace: AsyncHeadrace
    ) -> None:
        """It was Headrace before: what answers in its place just now is a proxy that has come up first."""
        story = server.tell(connections=[Connection(1, "tear")])
        async with aclosing(headrace.events(JOB)) as events:
            first = await anext(events)
            story.refusals.append(HTMLResponse("Path not found", 404))
            assert [first.n, *[event.n async for event in events]] == NUMBERS
        assert not story.refusals

    async def test_a_reader_may_begin_anywhere(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        story = server.tell(connections=[Connection(1, "tear")])
        assert [event.n for event in await read(headrace, after=4)] == [5, 8, 9, 10, 11]
        assert story.places == [("4", None), (None, "5.50")]

    async def test_a_read_past_the_outcome_is_empty(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        server.tell()
        assert await read(headrace, after=11) == []

    async def test_a_reader_may_leave_before_the_outcome(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        story = server.tell()
        async with aclosing(headrace.events(JOB)) as events:
            first = await anext(events)
        assert first.n == 1
        assert len(story.places) == 1

    async def test_what_is_no_longer_kept_is_a_gap_and_what_is_void_a_reset(
        self, server: ScriptedServer, headrace: AsyncHeadrace
    ) -> None:
        server.tell(
            told(
                ("gap", {"n": 7, "from": 1, "to": 7}),
                ("reset", {"stage": "write"}),
                ("dead_lettered", {"stage": "write", "reason": "3 crashes"}),
            )
        )
        gap, reset, outcome = await read(headrace)
        assert isinstance(gap, Gap)
        assert isinstance(reset, Reset)
        assert isinstance(outcome, DeadLettered)
        assert [gap.n, reset.n, outcome.n] == [7, 8, 9]
        assert (gap.from_, gap.to) == (1, 7)

    async def test_a_kind_of_a_newer_server_is_passed_on(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        server.tell(told(("step.pondered", {"about": "mills"}), ("expired", {})))
        pondered, expired = await read(headrace)
        assert type(pondered) is Event
        assert (pondered.kind, pondered.model_extra) == ("step.pondered", {"about": "mills"})
        assert expired.kind == "expired"

    async def test_a_resume_waits_what_the_server_wants_and_a_little_more(
        self, server: ScriptedServer, headrace: AsyncHeadrace, waits: list[float]
    ) -> None:
        server.tell(connections=[Connection(3), Connection(1, "break")])
        await read(headrace)
        assert len(waits) == 2
        assert all(1.5 < wait <= 1.75 for wait in waits)

    async def test_streams_that_bring_nothing_are_opened_more_and_more_rarely_but_never_given_up(
        self, server: ScriptedServer, headrace: AsyncHeadrace, waits: list[float]
    ) -> None:
        server.tell(connections=[Connection(0)] * 12 + [Connection(0, "break")] * 12)
        assert [event.n for event in await read(headrace)] == NUMBERS
        assert len(waits) == 24
        assert min(waits[8:]) > 1.5 + Patience().longest / 2
        assert max(waits) <= 1.5 + Patience().longest

    async def test_a_server_that_is_away_is_waited_for(
        self, server: ScriptedServer, headrace: AsyncHeadrace, waits: list[float]
    ) -> None:
        away = problem(503, "no log", retry_after=3)
        server.tell(connections=[Connection(4, "break")], refusals=[None, away, away, None])
        assert [event.n for event in await read(headrace)] == NUMBERS
        assert [wait > 3 for wait in waits] == [False, True, True]

    async def test_a_server_that_stays_away_is_an_error(
        self, server: ScriptedServer, headrace: AsyncHeadrace, waits: list[float]
    ) -> None:
        server.tell(connections=[Connection(4)], refusals=[None] + [problem(503, "no log")] * 20)
        async with aclosing(headrace.events(JOB)) as events:
            assert [(await anext(events)).n for _ in range(4)] == NUMBERS[:4]
            with pytest.raises(client.Unavailable):
                await anext(events)
        assert len(waits) == Patience().tries

    async def test_an_unknown_job_is_an_error_at_once(
        self, server: ScriptedServer, headrace: AsyncHeadrace, waits: list[float]
    ) -> None:
        server.tell(refusals=[problem(404, "there is no job x")])
        with pytest.raises(client.NotFound, match="no job x"):
            await read(headrace)
        assert waits == []

    async def test_something_else_than_a_stream_is_an_error(
        self, server: ScriptedServer, headrace: AsyncHeadrace
    ) -> None:
        server.tell(refusals=[HTMLResponse("<h1>Welcome</h1>")])
        with pytest.raises(client.Unintelligible, match="does not stream events"):
            await read(headrace)

    async def test_an_event_that_is_not_as_expected_is_an_error(
        self, server: ScriptedServer, headrace: AsyncHeadrace
    ) -> None:
        server.tell([("completed", {"n": 1, "at": 0.0})])
        with pytest.raises(client.Unintelligible, match="'completed'"):
            await read(headrace)


class TestJob:
    async def test_a_job_is_shown_as_it_stands(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        server.tell(job={**JOB_REPLY, "new_field": 1})
        job = await headrace.job(JOB)
        assert (job.answer, job.ended, job.metadata, job.model_extra) == (
            ANSWER,
            True,
            {"team": "blue"},
            {"new_field": 1},
        )

    async def test_a_result_waits_for_the_outcome(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        running = JSONResponse({**JOB_REPLY, "status": "running", "answer": None})
        story = server.tell(refusals=[running], connections=[Connection(2), Connection(2, "tear")])
        assert await headrace.result(JOB) == ANSWER
        assert len(story.places) == 3

    async def test_a_result_of_a_job_that_has_ended_reads_no_events(
        self, server: ScriptedServer, headrace: AsyncHeadrace
    ) -> None:
        story = server.tell()
        assert await headrace.result(JOB) == ANSWER
        assert story.places == []

    async def test_a_job_that_ends_without_an_answer_says_how(
        self, server: ScriptedServer, headrace: AsyncHeadrace
    ) -> None:
        error = {"type": "ValueError", "message": "no mill"}
        server.tell(job={**JOB_REPLY, "status": "dead_lettered", "stage": "write", "answer": None, "error": error})
        with pytest.raises(client.NotCompleted) as raised:
            await headrace.result(JOB)
        assert str(raised.value) == f"job {JOB} ended dead lettered in write: ValueError: no mill"
        assert raised.value.job.status == "dead_lettered"

    async def test_a_job_id_cannot_reach_another_place(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        server.tell()
        with pytest.raises(client.Unintelligible, match=r"%2F|stages"):
            await headrace.job("../stages")


class TestPlain:
    """The same promises without asyncio."""

    def test_a_job_is_submitted_read_and_answered(self, server: ScriptedServer, plain: Headrace) -> None:
        story = server.tell(unanswered=1, connections=[Connection(3, "break"), Connection(2, "tear")])
        job = plain.submit("analysis", {"text": "why?"}, key="k1")
        assert [event.n for event in plain.events(job.id)] == NUMBERS
        assert plain.result(job.id) == ANSWER
        assert (story.submits, len(story.stored)) == (2, 1)
        assert plain.job(job.id).ended
        assert plain.wait(job.id).status == "completed"

    def test_stages_and_pipelines_are_listed(self, server: ScriptedServer, plain: Headrace) -> None:
        server.tell()
        (pipeline,) = plain.pipelines()
        assert (pipeline.name, pipeline.input["required"]) == ("analysis", ["text"])
        (stage,) = plain.stages()
        assert (stage.stage, stage.waiting, stage.lanes["interactive"].running) == ("write", 3, 1)
        assert stage.replicas[0].detail == "loading weights"

    def test_a_reader_may_leave_before_the_outcome(self, server: ScriptedServer, plain: Headrace) -> None:
        story = server.tell()
        assert next(plain.events(JOB)).n == 1
        assert len(story.places) == 1

    async def test_it_works_where_a_loop_runs_as_in_a_notebook(self, server: ScriptedServer, plain: Headrace) -> None:
        server.tell(connections=[Connection(3, "break")])
        assert [event.n for event in plain.events(JOB)] == NUMBERS

    def test_errors_are_the_same(self, server: ScriptedServer, plain: Headrace) -> None:
        server.tell(refusals=[problem(404, "there is no job x")])
        with pytest.raises(client.NotFound):
            plain.job("x")


class TestReaching:
    def test_nobody_there_is_an_error_that_asks_the_right_question(self, waits: list[float]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Headrace(url, sleep=waits.append) as headrace, pytest.raises(client.Unreachable) as raised:
            headrace.submit("analysis", {}, key="k1")
        assert str(raised.value).startswith(f"no answer from {url}")
        assert "is the server running there? `headrace up` starts one." in str(raised.value)
        assert "with the key k1, which makes no second job" in str(raised.value)
        assert len(waits) == Patience().tries - 1

    @pytest.mark.parametrize(
        "url", ["localhost:8000", "ftp://there", "http://", "http://a:b", "http://x..y", "nonsense"]
    )
    def test_what_is_no_url_is_refused_at_once(self, url: str) -> None:
        with pytest.raises(client.BadRequest, match="URL"):
            Headrace(url)

    def test_a_stranger_is_told_from_headrace(self, server: ScriptedServer, plain: Headrace) -> None:
        server.tell(refusals=[HTMLResponse("<h1>Welcome</h1>")])
        with pytest.raises(client.Unintelligible, match="is this its URL"):
            plain.stages()


class TestPatience:
    def test_waits_double_with_jitter_up_to_the_longest(self) -> None:
        patience, rng = Patience(first=1.0, longest=8.0), Random(1)
        for failures, ceiling in enumerate([1, 2, 4, 8, 8, 8], start=1):
            waits = {patience.delay(failures, rng) for _ in range(100)}
            assert len(waits) == 100
            assert ceiling / 2 <= min(waits) < max(waits) <= ceiling

    def test_what_is_asked_for_is_waited_out_in_addition(self) -> None:
        assert 10.5 <= Patience(first=1.0).delay(1, Random(1), asked=10.0) <= 11.0

    def test_it_ends(self) -> None:
        patience = Patience(tries=3, longest_asked=60)
        assert [patience.gives_up(n) for n in (1, 2, 3)] == [False, False, True]
        assert patience.gives_up(1, asked=61)
