from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from actors.contracts.errors import Failure
from actors.contracts.events import (
    Aborted,
    Cancelled,
    Completed,
    DeadLettered,
    Expired,
    Failed,
    InputRequired,
    Origin,
    Outcome,
    StepReleased,
)
from actors.contracts.messages import Packed
from actors.contracts.notice import MOST_BYTES, RESPONSES, delivery_id, notice, trial

NOW = datetime(2026, 11, 24, 9, 0, 0, 123_456, tzinfo=UTC)
JOB = "a" * 26
ORIGIN = Origin(pipeline="analysis", version="0" * 12, fingerprint="f", created=NOW, deadline=NOW, metadata={"a": "b"})
STAMP: dict[str, Any] = {"n": 3, "by": "test", "at": NOW}
BROKEN = Failure(type="RuntimeError", message="it broke")
REPLY = Packed(type="Reply", body={"text": "It turns.", "finish_reason": "stop"})
CUT = Packed(type="Reply", body={"text": "It", "finish_reason": "length"})
DEAD: dict[str, Any] = {"stage": "write", "reason": "r", "input": REPLY, "attempts": 3, "crashes": 0, "deliveries": 3}
ENDS: list[tuple[type[Outcome], dict[str, Any], str, str]] = [
    (Completed, {"answer": REPLY}, "completed", "completed"),
    (Completed, {"answer": CUT}, "completed", "incomplete"),
    (Failed, {"stage": "write", "error": BROKEN}, "failed", "failed"),
    (Cancelled, {}, "cancelled", "cancelled"),
    (Expired, {}, "expired", "failed"),
    (Aborted, {}, "aborted", "failed"),
    (DeadLettered, DEAD, "dead_lettered", "failed"),
]


@pytest.mark.parametrize(("kind", "more", "native", "openai"), ENDS)
def test_every_outcome_has_a_name_in_our_words_and_in_openais(
    kind: type[Outcome], more: dict[str, Any], native: str, openai: str
) -> None:
    said = notice(kind(**STAMP, origin=ORIGIN, **more), ORIGIN, JOB, "of")
    assert said
    assert said.event == f"job.{native}"
    assert json.loads(said.body)["data"]["status"] == native
    origin = ORIGIN.model_copy(update={"door": RESPONSES})
    said = notice(kind(**STAMP, origin=origin, **more), origin, JOB, "of")
    assert said
    assert said.event == f"response.{openai}"
    told = json.loads(said.body)
    assert re.fullmatch("evt_[a-z2-7]{26}", told.pop("id"))
    assert told == {
        "object": "event",
        "created_at": 1_795_510_800,
        "type": f"response.{openai}",
        "data": {"id": f"resp_{JOB}"},
    }


def test_a_notice_is_thin_and_stays_so_when_there_is_much_beside_the_job() -> None:
    origin = ORIGIN.model_copy(update={"metadata": {str(n): "é" * 512 for n in range(16)}})
    outcome = Completed(**STAMP, origin=origin, answer=Packed(type="Reply", body={"text": "x" * 100_000}))
    small = notice(outcome, origin, JOB, "of")
    assert small
    assert len(small.body.encode()) < MOST_BYTES
    assert "metadata" in json.loads(small.body)["data"]
    much = origin.model_copy(update={"metadata": {str(n): "漢" * 512 for n in range(16)}})
    said = notice(outcome, much, JOB, "of")
    assert said
    assert len(said.body.encode()) < 1_000
    assert json.loads(said.body)["timestamp"] == "2026-11-24T09:00:00.123Z"


def test_a_question_is_told_by_its_number_and_nothing_else_that_happens_on_the_way_is() -> None:
    asks = InputRequired(**STAMP, stage="write", claim="c", key="k", question="Which?", expects={})
    said = notice(asks, ORIGIN, JOB, "of")
    assert said
    assert (said.event, json.loads(said.body)["data"]["question"]) == ("job.input_required", 3)
    assert "Which?" not in said.body
    assert notice(StepReleased(**STAMP, claim="c", reason="r"), ORIGIN, JOB, "of") is None


def test_the_id_of_a_delivery_is_the_same_every_time_and_another_for_every_endpoint_and_fact() -> None:
    ids = [delivery_id(of, endpoint) for of in ("one", "two") for endpoint in ("a", "b")]
    assert len(set(ids)) == 4
    assert ids[0] == delivery_id("one", "a")
    assert all(re.fullmatch("msg_[a-z2-7]{26}", id) for id in ids)


def test_a_trial_says_what_it_is() -> None:
    assert json.loads(trial("e", NOW).body) == {
        "type": "webhook.test",
        "timestamp": "2026-11-24T09:00:00.123Z",
        "data": {"endpoint": "e"},
    }
