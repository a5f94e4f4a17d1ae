from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from actors.contracts.envelope import Envelope, Fact
from actors.contracts.events import (
    Aborted,
    Cancelled,
    CancelRequested,
    Completed,
    DeadLettered,
    Delta,
    Event,
    Expired,
    Failed,
    HandOff,
    InputRequired,
    NotAnEvent,
    Outcome,
    Progress,
    Record,
    ReviewDiscarded,
    ReviewRedriven,
    StepFailed,
    StepPart,
    StepReleased,
    StepStarted,
    Text,
    Told,
    Unknown,
    parse,
    place,
)
from actors.contracts.generation import Usage
from actors.contracts.messages import Message, Packed
from tests.records import BROKEN, ORIGIN, START

NOTE = Packed(type="Note", body={"text": "Größe \U0001f600", "empty": None, "deep": [{"a": [1.5, None]}]})

EVENTS: dict[type[Envelope], dict[str, Any]] = {
    HandOff: {"stage": "write", "origin": ORIGIN, "message": NOTE, "of": 1, "text": "t" * 64,
              "usage": Usage(output_tokens=1)},
    StepStarted: {"stage": "write", "attempt": 2, "claim": "c", "worker": "w", "ack": "$JS.ACK.x", "from_": 7,
                  "reset": True, "model": "m"},
    StepFailed: {"claim": "c", "error": BROKEN, "retry_at": START},
    StepReleased: {"claim": "c", "reason": "the worker is stopping"},
    StepPart: {"key": "k", "value": {"a": [1, None]}, "type": "Note"},
    InputRequired: {"stage": "write", "claim": "c", "key": "year", "question": "Which year?",
                    "expects": {"type": "integer"}, "until": START, "misfit": "no integer", "wasted": 2},
    CancelRequested: {"reason": "enough"},
    Completed: {"origin": ORIGIN, "answer": NOTE},
    Failed: {"origin": ORIGIN, "stage": "write", "error": BROKEN},
    Cancelled: {"origin": ORIGIN, "reason": "enough"},
    Expired: {"origin": ORIGIN},
    Aborted: {"origin": ORIGIN},
    DeadLettered: {"origin": ORIGIN, "stage": "write", "reason": "spent", "input": NOTE, "errors": (BROKEN,),
                   "attempts": 3, "crashes": 1, "deliveries": 4, "partial": "Mill", "cut": True},
    ReviewRedriven: {"to": "another"},
    ReviewDiscarded: {"reason": "seen"},
    Delta: {"stage": "write", "text": "Mill", "tokens": (1, 2), "from_": 3, "finish_reason": "stop"},
    Progress: {"stage": "write", "message": "passages", "done": 3, "total": 5},
}  # fmt: skip

PLACES = {
    HandOff: ("job", "write"),
    Delta: ("text", "write"),
    Progress: ("text", "write"),
    DeadLettered: ("job", "dead"),
    InputRequired: ("job", "ask"),
    ReviewRedriven: ("job", "review"),
    ReviewDiscarded: ("job", "review"),
    **dict.fromkeys([StepStarted, StepFailed, StepReleased, StepPart, CancelRequested], ("job", "step")),
    **dict.fromkeys([Completed, Failed, Cancelled, Expired, Aborted], ("job", "done")),
}


def event(kind: type[Envelope], **changed: Any) -> Envelope:
    return kind(**{"n": 2, "by": "write-1/c", "at": START, **EVENTS[kind], **changed})


def test_every_kind_is_tested_here() -> None:
    assert set(EVENTS) == set(get_args(Event)) == set(PLACES)


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_is_read_as_it_was_written(kind: type[Envelope]) -> None:
    written = event(kind)
    assert parse(written.encode()) == written
    assert parse(written.encode()).encode() == written.encode()


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_lies_on_the_subject_of_its_kind(kind: type[Envelope]) -> None:
    assert place(event(kind)) == PLACES[kind]
    assert (PLACES[kind][0] == "text") == issubclass(kind, Text) == (not issubclass(kind, Fact))


def test_a_hand_off_whose_time_has_not_come_is_on_no_stages_topic() -> None:
    assert place(event(HandOff, start_at=START)) == ("job", "later")


def test_what_a_step_was_told_is_kept_to_the_last_null() -> None:
    told = Told(question=3, key="year", answer={"year": None, "more": [None]})
    assert parse(event(HandOff, told=told).encode()) == event(HandOff, told=told)


@pytest.mark.parametrize("kind", EVENTS)
def test_fields_of_a_newer_version_are_passed_over(kind: type[Envelope]) -> None:
    newer = {**json.loads(event(kind).encode()), "v": 2, "mood": {"good": True}}
    assert parse(json.dumps(newer).encode()) == event(kind, v=2)


@pytest.mark.parametrize("kind", EVENTS)
@pytest.mark.parametrize("missing", ["n", "by", "at", "kind"])
def test_without_its_envelope_it_is_no_event(kind: type[Envelope], missing: str) -> None:
    torn = json.loads(event(kind).encode())
    del torn[missing]
    with pytest.raises(NotAnEvent):
        parse(json.dumps(torn).encode())


def test_a_kind_of_a_newer_version_has_its_number_and_its_place() -> None:
    read = parse(b'{"v":2,"n":9,"kind":"step.paused","by":"write-1/c","at":1.5,"claim":"c"}')
    assert isinstance(read, Unknown)
    assert (read.v, read.n, read.kind) == (2, 9, "step.paused")
    with pytest.raises(NotAnEvent, match=r"step\.paused"):
        place(read)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"1",
        b"[]",
        b"{}",
        b'{"kind":"handoff"',
        b'{"kind":null}',
        b'{"kind":"step.paused"}',
        b'{"v":1,"n":1,"kind":"step.released","by":"x","at":1e300,"claim":"c","reason":"r"}',
        b'{"v":1,"n":1,"kind":"step.paused","by":"x","at":1e300}',
        b'{"v":1,"n":1,"kind":"handoff","by":"x","at":1.5}',
        b"[" * 100_000,
        b'{"v":1,"n":1,"kind":"step.part","by":"x","at":1.5,"key":"k","value":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
)
def test_other_bytes_are_no_event_and_say_so(data: bytes) -> None:
    with pytest.raises(NotAnEvent, match=f"{len(data)} bytes"):
        parse(data)


def test_what_is_wrong_with_bytes_is_said_without_what_stands_in_them() -> None:
    with pytest.raises(NotAnEvent, match=r"handoff\.message") as raised:
        parse(b'{"v":1,"n":1,"kind":"handoff","by":"x","at":1.5,"stage":"write","message":"my prompt"}')
    assert "my prompt" not in str(raised.value)


@given(st.binary())
def test_no_bytes_at_all_break_the_reader(data: bytes) -> None:
    with pytest.raises(NotAnEvent):
        parse(data)


WORDS = st.text(alphabet=st.characters(codec="utf-8"))
JSON: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_whatever_once_returned_comes_back(value: JsonValue) -> None:
    part = event(StepPart, value=value)
    assert parse(part.encode()) == part


class Everything(Message):
    required: int | None
    optional: str | None = "there"
    nested: dict[str, int | None]


def test_a_message_keeps_its_fields_that_are_none() -> None:
    sent = Everything(required=None, optional=None, nested={"a": None})
    read = parse(event(HandOff, message=Packed.of(sent)).encode())
    assert isinstance(read, HandOff)
    assert Everything.model_validate(read.message.body) == sent


def test_an_outcome_is_whatever_ends_a_job() -> None:
    endings = {kind.model_fields["kind"].default for kind in EVENTS if issubclass(kind, Outcome)}
    assert endings == {"completed", "failed", "cancelled", "expired", "aborted", "dead_lettered"}


def test_a_hand_off_that_is_given_out_again_belongs_to_the_step_where_it_began() -> None:
    assert event(HandOff, n=9, of=3).first_n == 3  # type: ignore[attr-defined]
    assert event(HandOff, n=9, of=None).first_n == 9  # type: ignore[attr-defined]


def test_a_record_shows_its_event_and_whether_it_is_text() -> None:
    said = event(Delta)
    record = Record(7, "text.write.standard.local.x", said.encode(), datetime(2026, 11, 23, tzinfo=UTC))
    assert record.event == said
    assert record.event is record.event
    assert record.is_text
    assert not Record(7, "job.step.standard.local.x", b"").is_text
    with pytest.raises(NotAnEvent):
        _ = Record(7, "job.step.standard.local.x", b"").event
