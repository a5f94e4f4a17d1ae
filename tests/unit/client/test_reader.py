from __future__ import annotations

from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import HTMLResponse

from actors import client
from actors.client import AsyncHeadrace, Headrace, Patience
from actors.replies import Completed, DeadLettered, Delta, Event, Gap, HandedOff, Reset, StepStarted
from tests.unit.scripted_server import A_JOB, ANSWER, JOB, NUMBERS, Connection, ScriptedServer, problem, told

TEXT = "It feeds a\n\nmill."


async def read(headrace: AsyncHeadrace, after: int = 0) -> list[Event]:
    return [event async for event in headrace.events(JOB, after=after)]


def spoken(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


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
