from __future__ import annotations

from typing import Any

import pytest

from actors.printout import age, fields, job_printout, stages_printout, why_it_waits
from actors.replies import Job, PipelineReport, StageReport
from tests.unit.scripted_server import JOB_REPLY, PIPELINE, STAGE

READY = {"worker": "write-1", "state": "ready", "detail": None, "jobs": 1, "free": 0}


def job(**data: Any) -> Job:
    return Job.model_validate({**JOB_REPLY, "status": "queued", "stage": "write", "answer": None, **data})


def stage(**data: Any) -> StageReport:
    return StageReport.model_validate({**STAGE, **data})


class TestWhyItWaits:
    def test_nobody_serves_its_stage(self) -> None:
        assert why_it_waits(job(), [stage(replicas=[])]) == "no replica of write answers yet"

    def test_there_are_none_yet_but_there_will_be(self) -> None:
        scaling = {"min": 0, "max": 4, "wanted": 2, "reason": "3 wait and 0 run, 2 for each replica"}
        said = why_it_waits(job(), [stage(replicas=[], scaling=scaling)])
        assert said == "no replica of write answers yet; 2 to come"

    def test_no_replica_is_ready(self) -> None:
        assert why_it_waits(job(), [stage()]) == "write is not ready: write-1 is loading: loading weights"

    def test_others_wait_too(self) -> None:
        assert why_it_waits(job(), [stage(replicas=[READY])]) == "3 jobs wait for write, the oldest for 12 s"

    def test_nothing_keeps_it(self) -> None:
        assert why_it_waits(job(status="running"), [stage(replicas=[READY])]) == ""
        assert why_it_waits(job(), []) == ""


def test_a_decision_that_nobody_tells_is_shown_as_unknown() -> None:
    shown = stages_printout([stage(scaling={"min": 0, "max": 4, "wanted": None, "reason": "nobody says"})])
    assert "\n  an unknown number wanted, of 0 to 4: nobody says\n" in shown


def test_about_how_many_tokens_wait_is_shown_no_better_than_it_is_known() -> None:
    shown = stages_printout([stage(tokens_waiting=41_234, replicas=[READY], scaling=None)])
    assert shown.endswith("\n  about 41,000 tokens wait")
    assert "tokens" not in stages_printout([stage(tokens_waiting=0)])


def test_replicas_that_are_there_for_something_else_are_counted_apart_and_say_what_for() -> None:
    spare = {**READY, "worker": "write-2", "role": "spare", "detail": "a warm spare"}
    _, row, *remarks = stages_printout([stage(replicas=[READY, spare], scaling=None)]).split("\n")
    assert row.endswith("1 ready, 1 spare")
    assert remarks == ["  write-2 is ready: a warm spare"]


def test_a_running_job_shows_what_it_has_said_and_where_it_is() -> None:
    shown = job_printout(job(status="running", attempts=2, text="It feeds\na mill\x1b[2J"))
    assert "status    running in write, attempt 2\n" in shown
    assert shown.endswith("text      It feeds\n          a mill[2J")


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, "-"), (0.4, "0 s"), (119, "119 s"), (150, "2 min"), (7300, "2 h")]
)
def test_an_age_is_told_in_the_largest_unit_that_fits(seconds: float | None, said: str) -> None:
    assert age(seconds) == said


def test_fields_are_told_with_their_types() -> None:
    optional = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    properties = {"a": {"type": "string"}, "b": {"type": "array", "items": {"$ref": "#/$defs/Part"}}, "c": optional}
    assert (
        fields({"properties": properties, "required": ["a", "b"]}) == "a: string, b: list of Part, [c: integer or null]"
    )
    assert fields({}) == "no fields"


@pytest.mark.parametrize(
    ("properties", "required", "field"),
    [
        ({"text": "string", "limit": "integer"}, ["text"], "text"),
        ({"text": "string", "limit": "integer"}, [], "text"),
        ({"a": "string", "b": "string"}, ["b"], "b"),
        ({"a": "string", "b": "string"}, [], None),
        ({"a": "string", "n": "integer"}, ["n"], None),
        ({"a": "string", "n": "integer"}, ["a", "n"], None),
    ],
)
def test_mere_text_stands_for_the_one_field_that_it_can(
    properties: dict[str, str], required: list[str], field: str | None
) -> None:
    schema = {"properties": {name: {"type": type} for name, type in properties.items()}, "required": required}
    assert PipelineReport.model_validate({**PIPELINE, "input": schema}).text_field == field
