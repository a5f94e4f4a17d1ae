"""A job's events as OpenAI's: the same ones for everybody, whatever happened to the job on its way."""

from __future__ import annotations

from typing import Any

import pytest

from actors.contracts.conversation import Conversation, Said
from actors.contracts.errors import Failure
from actors.contracts.events import Aborted, Cancelled, Completed, DeadLettered, Expired, Failed
from actors.contracts.generation import Usage
from actors.contracts.messages import Packed
from actors.http.openai_answers import Asked, ChatStream, Json, ResponseStream, failure, response, void_until
from actors.http.openai_requests import Echo
from tests.records import JOB, ORIGIN, START, Log

ECHO = Echo(door="responses", model="chat", background=True)


def a_log() -> Log:
    """A job that a response made."""
    log, said = Log(), [Said(role="user", content="go")]
    asked = Conversation(messages=said, asked=ECHO.model_dump(mode="json"))
    log.hand_off(message=Packed.of(asked))
    return log


def complete(log: Log, text: str, finish_reason: str = "stop") -> None:
    answer = Packed(type="Reply", body={"text": text, "finish_reason": finish_reason})
    log.add(Completed, origin=ORIGIN, answer=answer, usage=Usage(prompt_tokens=3, output_tokens=2))


def asked_in(log: Log) -> Asked:
    asked = Asked.of(JOB, log.records, "responses")
    assert asked is not None
    return asked


def told(log: Log, *, void: int = 0) -> list[Json]:
    stream = ResponseStream(asked_in(log), void_until=void)
    return [event for record in log.records for event in stream.take(record.event.n, record.event)]


def text_of(events: list[Json]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def test_a_retry_goes_on_in_the_same_text() -> None:
    log = a_log()
    log.start("a")
    log.say("one ", (1,), 0)
    log.fail("a")
    log.start("b", from_=1)
    log.say("two", (2,), 1, finish_reason="stop")
    complete(log, "one two")
    events = told(log)
    assert text_of(events) == "one two"
    assert [event["type"] for event in events].count("response.in_progress") == 1
    numbers = [event["sequence_number"] for event in events]
    assert numbers == sorted(set(numbers))


def test_text_that_became_void_under_a_reader_is_announced_as_an_error() -> None:
    log = a_log()
    log.start("a")
    log.say("void ", (1,), 0)
    log.start("b", reset=True)
    [error] = [event for event in told(log) if event["type"] == "error"]
    assert error["code"] == "text_void"
    assert error["sequence_number"] == 16 * 4
    assert "error" not in error, "the client would raise it before its code is seen"


def test_text_that_is_void_is_not_shown_to_who_begins_afterwards() -> None:
    log = a_log()
    log.start("a")
    log.say("void ", (1,), 0)
    reset = log.start("b", reset=True)
    log.say("good", (2,), 0, finish_reason="stop")
    complete(log, "good")
    events = told(log, void=void_until(log.records, 0))
    assert text_of(events) == "good"
    assert not [event for event in events if event["type"] == "error"]
    assert [void_until(log.records, seen) for seen in range(6)] == [4, 4, 4, 0, 4, 4]
    assert reset.event.n == 4


def test_text_that_the_log_lost_comes_from_the_answer_under_numbers_of_its_own() -> None:
    log = a_log()
    log.start("a")
    log.say("one ", (1,), 0)
    log.say("two", (2,), 1, finish_reason="stop")
    complete(log, "one two")
    whole = told(log)
    del log.records[2:4]
    lossy = told(log)
    assert text_of(lossy) == text_of(whole) == "one two"
    assert [e for e in whole if not e["type"].endswith("text.delta")] == [
        e for e in lossy if not e["type"].endswith("text.delta")
    ]
    assert lossy[5]["sequence_number"] == 16 * 5 + 4


def test_a_reply_that_was_not_spoken_is_told_whole() -> None:
    log = a_log()
    complete(log, "silent")
    events = told(log)
    assert text_of(events) == "silent"
    assert events[2]["type"] == "response.in_progress"
    numbers = [event["sequence_number"] for event in events]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    ("outcome", "fields", "why"),
    [
        (Failed, {"stage": "write", "error": Failure(type="TooLong", message="shorten it")}, "TooLong: shorten it"),
        (Expired, {}, "Its deadline passed before it was done."),
        (Aborted, {}, "Its deadline passed before it was done."),
        (
            DeadLettered,
            {
                "stage": "write",
                "reason": "it failed as often as it may",
                "input": Packed(type="Conversation", body={}),
                "errors": (Failure(type="RuntimeError", message="it broke"),),
                "attempts": 3,
                "crashes": 0,
                "deliveries": 3,
            },
            "It was tried as often as it may be: it failed as often as it may. "
            "The last error was RuntimeError: it broke",
        ),
    ],
)
def test_an_end_without_an_answer_is_a_failure_that_says_why(outcome: Any, fields: dict[str, Any], why: str) -> None:
    log = a_log()
    log.start("a")
    log.say("half", (1,), 0)
    log.add(outcome, origin=ORIGIN, **fields)
    last = told(log)[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"] == {"code": "server_error", "message": why}
    assert last["response"] == response(asked_in(log), log.records)
    [item] = last["response"]["output"]
    assert (item["status"], item["content"][0]["text"]) == ("incomplete", "half")
    chunks = ChatStream(asked_in(log), include_usage=False)
    *_, broken = [chunk for record in log.records for chunk in chunks.take(record.event.n, record.event)]
    assert broken["error"]["message"] == failure(log.records[-1].event) == why  # type: ignore[arg-type]


def test_a_response_is_queued_then_in_progress_then_cancelled() -> None:
    log = a_log()
    assert response(asked_in(log), log.records)["status"] == "queued"
    log.start("a")
    assert response(asked_in(log), log.records)["status"] == "in_progress"
    log.add(Cancelled, origin=ORIGIN)
    whole = response(asked_in(log), log.records)
    assert (whole["status"], whole["output"], whole["error"]) == ("cancelled", [], None)
    assert whole["created_at"] == START.timestamp()
    assert told(log)[-1]["type"] == "response.content_part.added", "OpenAI has no event for a cancel"


def test_a_job_without_a_request_of_openai_is_none_of_its_responses() -> None:
    log = Log()
    log.hand_off(message=Packed.of(Conversation(messages=[Said(role="user", content="go")])))
    assert Asked.of(JOB, log.records, "responses") is None
    assert Asked.of(JOB, a_log().records, "chat") is None
