"""Who is let in, and when the others are asked back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from starlette.responses import Response

from actors.contracts.subjects import Lane, Queue
from actors.http.admission import STALE_S, Admission, Seen
from actors.http.drain import LONGEST_S, STANDSTILL_S
from actors.http.problem import Refusal
from actors.journal.lag import Flow
from actors.journal.room import Room
from tests.pipelines import keeper, recital

EMPTY = Room(bytes=0, max_bytes=1_000, jobs=0, max_jobs=1_000, dead_letters=0)


class Watch:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def admission(watch: Watch) -> Admission:
    return Admission((recital, keeper), max_jobs=1_000, max_backlog=10, clock=watch)


def flows(waiting: dict[str, dict[Lane, int]], left: int = 0) -> dict[str, list[Flow]]:
    return {
        stage: [Flow(Queue(stage, lane), n, 0, left) for lane, n in lanes.items()] for stage, lanes in waiting.items()
    }


def refused(admission: Admission, lane: Lane = "standard") -> Response:
    with pytest.raises(Refusal) as raised:
        admission.admit(recital, lane, 0)
    answer = raised.value.answer()
    assert json.loads(bytes(answer.body))["detail"].endswith(".")
    return answer


def test_what_is_not_known_is_admitted(admission: Admission, watch: Watch) -> None:
    admission.admit(recital, "standard", 0)
    admission.take(Seen(watch.now, replace(EMPTY, bytes=1_000), {}))
    refused(admission)
    watch.now += STALE_S + 1
    admission.admit(recital, "standard", 0)


@pytest.mark.parametrize("full", [{"bytes": 900}, {"jobs": 900}])
def test_at_nine_tenths_of_its_bytes_or_jobs_the_log_takes_no_new_job(
    admission: Admission, watch: Watch, full: dict[str, int]
) -> None:
    admission.take(Seen(watch.now, replace(EMPTY, bytes=899, jobs=899), {}))
    admission.admit(recital, "standard", 0)
    admission.take(Seen(watch.now, replace(EMPTY, **full), {}))
    answer = refused(admission)
    assert (answer.status_code, json.loads(bytes(answer.body))["type"]) == (503, "urn:headrace:problem:full")
    assert answer.headers["Retry-After"] == str(STANDSTILL_S)


def test_a_log_without_a_limit_is_never_full(admission: Admission, watch: Watch) -> None:
    admission.take(Seen(watch.now, replace(EMPTY, bytes=1 << 40, max_bytes=-1), {}))
    admission.admit(recital, "standard", 0)


def test_a_stage_whose_backlog_is_at_its_bound_keeps_out_its_own_pipeline_only(
    admission: Admission, watch: Watch
) -> None:
    admission.take(Seen(watch.now, EMPTY, flows({"recite": {"standard": 10}, "keep": {"standard": 9}})))
    answer = refused(admission)
    said = json.loads(bytes(answer.body))
    assert (answer.status_code, said["type"]) == (429, "urn:headrace:problem:backlog")
    assert (said["stage"], said["waiting"]) == ("recite", 10)
    admission.admit(keeper, "standard", 0)


def test_what_waits_in_a_later_lane_keeps_nobody_out_of_an_earlier_one(admission: Admission, watch: Watch) -> None:
    waits: dict[Lane, int] = {"interactive": 4, "standard": 5, "batch": 6}
    admission.take(Seen(watch.now, EMPTY, flows({"prepare": waits})))
    admission.admit(recital, "standard", 0)
    admission.admit(recital, "interactive", 0)
    assert refused(admission, "batch").status_code == 429


def test_it_is_asked_back_at_the_rate_at_which_the_stage_works(admission: Admission, watch: Watch) -> None:
    for left in (0, 20):
        admission.take(Seen(watch.now, EMPTY, flows({"recite": {"standard": 19}}, left=left)))
        watch.now += 10
    watch.now -= 10
    assert refused(admission).headers["Retry-After"] == "5"  # 2 a second, and 9 is enough


def test_it_is_asked_back_at_the_rate_at_which_room_is_made(admission: Admission, watch: Watch) -> None:
    for taken in (990, 950, 960):
        admission.take(Seen(watch.now, replace(EMPTY, bytes=taken), {}))
        watch.now += 10
    watch.now -= 10
    assert refused(admission).headers["Retry-After"] == "30"  # 40 in 20 s are freed, and 60 have to be
    admission.take(Seen(watch.now, replace(EMPTY, bytes=960, jobs=1_000), {}))
    assert int(refused(admission).headers["Retry-After"]) <= LONGEST_S


def test_a_burst_between_two_looks_does_not_pass_the_marks(admission: Admission, watch: Watch) -> None:
    admission.take(Seen(watch.now, replace(EMPTY, bytes=500, jobs=50), flows({})))
    for _ in range(4):
        admission.admit(recital, "standard", 25)  # which its three stages make a hundred of
    assert refused(admission).status_code == 503
    admission.take(Seen(watch.now, replace(EMPTY, bytes=800, jobs=8), flows({})))
    admission.admit(recital, "standard", 1)  # like the others, it will take a hundred
    assert refused(admission).status_code == 503
    admission.take(Seen(watch.now, EMPTY, flows({"prepare": {"standard": 7}})))
    lanes: tuple[Lane, ...] = ("standard", "interactive", "standard")
    for lane in lanes:
        admission.admit(recital, lane, 1)
    assert refused(admission).status_code == 429
    admission.admit(keeper, "standard", 1)
