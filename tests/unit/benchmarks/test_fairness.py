from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.queueing import Heard
from benchmarks.scaling import reversals


def at(seconds: float) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def test_a_job_waits_from_its_hand_off_to_its_start_and_the_starts_of_others_between_them_count() -> None:
    heard = Heard(
        asked={"a": at(1), "b": at(5)},
        started={"a": at(3), "b": at(5.5), "x": at(0.5), "y": at(2), "z": at(2.5)},
    )
    assert heard.waits(["a", "b"]) == [2.0, 0.5]
    assert heard.overtaken(["a", "b"], ["x", "y", "z", "never started"]) == [2, 0]


def test_a_gap_is_the_time_between_two_ends() -> None:
    heard = Heard(ended={"a": at(1), "b": at(4), "c": at(2)})
    assert heard.gaps(["a", "b", "c", "never ended"]) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("wanted", "times"),
    [([1, 1], 0), ([1, 3, 3], 0), ([1, 2, 3, 3, 1], 1), ([1, 3, 2, 3, 1], 3), ([3, 1, 3], 1)],
)
def test_a_number_that_goes_another_way_than_before_turns_round(wanted: list[int], times: int) -> None:
    assert reversals(wanted) == times
