from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.replies import Event, event_of
from benchmarks.walked import way_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def story(*events: tuple[str, float, dict[str, Any]]) -> list[Event]:
    """Events, each at so many seconds."""
    return [
        event_of(kind, "", {"n": n, "at": (T0 + timedelta(seconds=at)).isoformat(), **data})
        for n, (kind, at, data) in enumerate(events, start=1)
    ]


def handed(stage: str, at: float) -> tuple[str, float, dict[str, Any]]:
    return "handoff", at, {"stage": stage, "type": "X"}


def started(stage: str, at: float) -> tuple[str, float, dict[str, Any]]:
    return "step.started", at, {"stage": stage, "attempt": 1, "worker": "w"}


DONE = {"answer": {}, "usage": {"prompt_tokens": 7, "output_tokens": 5}}


def test_each_step_has_its_wait_and_its_work_and_a_second_visit_is_another_step() -> None:
    way = way_of(
        story(
            handed("write", 0.0),
            started("write", 1.0),
            handed("call_tools", 3.0),
            started("call_tools", 3.5),
            handed("write", 4.0),
            started("write", 4.25),
            ("delta", 5.0, {"stage": "write", "text": "It", "from": 0}),
            ("delta", 6.0, {"stage": "write", "text": " is", "from": 1}),
            handed("polish", 7.0),
            ("completed", 7.5, DONE),
        )
    )
    assert [(step.name, step.waited, step.worked) for step in way.steps] == [
        ("write", 1.0, 2.0),
        ("call_tools", 0.5, 0.5),
        ("write (2)", 0.25, 2.75),
        ("polish", 0.0, 0.5),
    ]
    assert (way.first_token, way.took) == (5.0, 7.5)
    assert way.usage.output_tokens == 5


def test_a_step_that_was_tried_twice_waited_once() -> None:
    way = way_of(story(handed("write", 0), started("write", 1), started("write", 4), ("completed", 6, DONE)))
    [step] = way.steps
    assert (step.waited, step.worked) == (1, 5)


def test_a_job_without_an_answer_has_no_way() -> None:
    with pytest.raises(ValueError, match="not answered"):
        way_of(story(handed("write", 0), ("cancelled", 1, {})))
