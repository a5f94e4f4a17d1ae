from __future__ import annotations

import socket

import pytest
from starlette.responses import HTMLResponse, JSONResponse

from actors import client
from actors.client import AsyncHeadrace, Headrace, Patience
from actors.contracts.messages import Message
from tests.unit.scripted_server import (
    ANSWER,
    JOB,
    JOB_REPLY,
    LOG,
    NUMBERS,
    Connection,
    ScriptedServer,
    a_letter,
    problem,
)


class Question(Message):
    text: str


class Answer(Message):
    text: str
    sources: list[str]


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


RUNNING = JSONResponse({**JOB_REPLY, "status": "running", "answer": None})


class TestWaiting:
    """A submission that returns with the outcome, where that comes in time."""

    async def test_the_answer_comes_with_the_submission(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        story = server.tell()
        job = await headrace.submit("analysis", {"text": "why?"}, wait=20)
        assert (job.ended, job.answer) == (True, ANSWER)
        assert (story.submits, story.preferences) == (1, ["wait=20"])

    async def test_where_only_its_acceptance_comes_the_job_is_asked_for(
        self, server: ScriptedServer, headrace: AsyncHeadrace
    ) -> None:
        accepted = {name: value for name, value in JOB_REPLY.items() if name not in ("updated", "answer")}
        story = server.tell(refusals=[JSONResponse(accepted | {"status": "queued"}, 202), None])
        assert (await headrace.submit("analysis", {"text": "why?"}, wait=20)).answer == ANSWER
        assert (story.submits, len(story.preferences)) == (1, 1)

    async def test_without_a_wait_nothing_is_preferred(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        story = server.tell()
        await headrace.submit("analysis", {"text": "why?"})
        assert story.preferences == [None]

    def test_without_asyncio_it_is_the_same(self, server: ScriptedServer, plain: Headrace) -> None:
        story = server.tell()
        assert plain.submit("analysis", {"text": "why?"}, wait=20).answer == ANSWER
        assert story.preferences == ["wait=20"]


class TestApiKey:
    async def test_it_is_sent_with_every_request(self, server: ScriptedServer) -> None:
        story = server.tell()
        async with AsyncHeadrace(server.url, api_key="secret") as headrace:
            await headrace.job(JOB)
        with Headrace(server.url, api_key="other") as plain:
            plain.job(JOB)
        assert story.authorizations == {"Bearer secret", "Bearer other"}

    async def test_without_one_nobody_is_named(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        story = server.tell()
        await headrace.job(JOB)
        assert story.authorizations == {None}

    @pytest.mark.parametrize("key", ["", "a\nb", " padded", "ключ"])
    def test_one_that_is_no_header_is_refused_and_not_shown(self, key: str) -> None:
        with pytest.raises(client.BadRequest, match="API key") as raised:
            Headrace(api_key=key)
        assert not key or key not in str(raised.value)


class TestLog:
    async def test_it_is_read_to_its_end_over_answers_that_break_off(
        self, server: ScriptedServer, headrace: AsyncHeadrace
    ) -> None:
        story = server.tell(connections=[Connection(1), Connection(0), Connection(2)])
        assert [entry.sequence async for entry in headrace.log(JOB)] == [entry["sequence"] for entry in LOG]
        assert [after for after, _ in story.places] == ["0", "10", "10", "30"]

    async def test_it_may_begin_anywhere_and_waits_for_a_server_that_is_away(
        self, server: ScriptedServer, headrace: AsyncHeadrace, waits: list[float]
    ) -> None:
        server.tell(refusals=[problem(503, "no log", retry_after=3), None])
        [entry] = [entry async for entry in headrace.log(JOB, after=20)]
        assert entry.event == {"n": 3, "kind": "delta"}
        assert waits[0] > 3

    async def test_a_server_that_stays_away_is_an_error(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        server.tell(refusals=[problem(503, "no log")] * 20)
        with pytest.raises(client.Unavailable):
            await anext(headrace.log(JOB))

    def test_without_asyncio_it_is_the_same(self, server: ScriptedServer, plain: Headrace) -> None:
        server.tell(connections=[Connection(2)])
        assert [entry.event["n"] for entry in plain.log(JOB) if isinstance(entry.event, dict)] == [1, 2, 3]

    async def test_what_is_no_line_of_a_log_is_an_error(self, server: ScriptedServer, headrace: AsyncHeadrace) -> None:
        server.tell(refusals=[HTMLResponse("<h1>Welcome</h1>")])
        with pytest.raises(client.Unintelligible, match="log"):
            await anext(headrace.log(JOB))


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

    async def test_a_result_waits_for_the_outcome_however_often_it_has_to_ask(
        self, server: ScriptedServer, headrace: AsyncHeadrace, waits: list[float]
    ) -> None:
        story = server.tell(refusals=[RUNNING, problem(503, "no log"), RUNNING, None])
        assert await headrace.result(JOB) == ANSWER
        assert story.preferences == ["wait=60"] * 4
        assert len(waits) == 3  # also where a server does not wait, it is not asked without end

    async def test_a_result_may_be_had_as_the_message_that_it_is(
        self, server: ScriptedServer, headrace: AsyncHeadrace, plain: Headrace
    ) -> None:
        server.tell()
        assert await headrace.result(JOB, Answer) == plain.result(JOB, Answer) == Answer.model_validate(ANSWER)
        with pytest.raises(client.Unintelligible, match="is no Question"):
            await headrace.result(JOB, Question)

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
