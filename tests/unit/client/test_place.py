"""A reader of several jobs has each event of each job once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent

from actors.client import AsyncHeadrace
from actors.client.errors import Unintelligible
from actors.client.place import Places


def sent(kind: str, job: str, n: int | None = None, id: str = "", **data: Any) -> ServerSentEvent:
    numbered = {} if n is None else {"n": n}
    return ServerSentEvent(kind, json.dumps({"job": job, **numbered, **data}), id)


def started(job: str, n: int, id: str = "") -> ServerSentEvent:
    return sent("step.started", job, n, id, stage="write", attempt=1, worker="w")


def test_each_event_comes_once_with_its_job_and_the_last_place_is_said_again() -> None:
    places = Places(["a", "b", "a"])
    assert (places.params, places.headers, places.begun) == ({"jobs": "a,b"}, {}, False)
    first = places.take(started("a", 1, "1.7-0"))
    assert first is not None
    assert (first[0], first[1].n) == ("a", 1)
    assert places.take(started("a", 1, "1.7-0")) is None
    assert places.take(started("b", 1, "1.7-1.9")) is not None
    assert (places.headers, places.begun, places.ended) == ({"Last-Event-ID": "1.7-1.9"}, True, False)


def test_it_ends_with_the_last_outcome_or_loss() -> None:
    places = Places(["a", "b"])
    places.take(sent("expired", "a", 4, "4.9-0"))
    assert not places.ended
    gone = places.take(sent("gone", "b"))
    assert gone is not None
    assert places.headers == {"Last-Event-ID": "4.9-0"}
    assert (gone[0], gone[1].kind) == ("b", "gone")
    assert places.ended
    assert places.take(sent("gone", "b")) is None


def test_what_is_of_another_job_is_passed_over_and_what_is_no_event_is_an_error() -> None:
    places = Places(["a"])
    assert places.take(started("other", 1)) is None
    assert places.take(ServerSentEvent("message", "", "", 1_500)) is None
    assert places.retry == 1.5
    with pytest.raises(Unintelligible):
        places.take(ServerSentEvent("delta", "no JSON"))


async def test_a_job_of_which_the_server_has_nothing_more_to_say_before_its_outcome_is_gone() -> None:
    first = "".join(
        f"id: {id}\nevent: {event.event}\ndata: {event.data}\n\n"
        for id, event in (("1.7-0", started("a", 1)), ("1.7-4.9", sent("expired", "b", 4)))
    )
    answers = [httpx.Response(200, text=first, headers={"Content-Type": "text/event-stream"}), httpx.Response(204)]
    transport = httpx.MockTransport(lambda _: answers.pop(0))
    async with AsyncHeadrace("http://test", transport=transport, sleep=lambda _: asyncio.sleep(0)) as headrace:
        read = [(job, event.kind) async for job, event in headrace.events_of(["a", "b"])]
    assert read == [("a", "step.started"), ("b", "expired"), ("a", "gone")]
