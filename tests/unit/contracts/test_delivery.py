from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from actors.contracts.delivery import EXHAUSTED, JITTER, MOST_ATTEMPTS, SCHEDULE, Attempt, Delivery

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
FRESH = Delivery(id="msg_a", event="job.completed", body="{}", created=NOW, due=NOW)


def attempt(status: int | None = 500, *, at: datetime = NOW, took: float = 0.0) -> Attempt:
    return Attempt(at=at, took=took, status=status, error=None if status else "it took longer than 20 s")


@pytest.mark.parametrize("luck", [0.0, 1.0])
def test_it_is_tried_on_the_schedule_of_the_specification_and_never_before(luck: float) -> None:
    delivery, pauses = FRESH, []
    while delivery.due:
        at = delivery.due
        delivery = delivery.tried(attempt(at=at), SCHEDULE, luck=luck)
        if delivery.due:
            pauses.append((delivery.due - at).total_seconds())
    wanted = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
    assert pauses == pytest.approx([pause * (1 + JITTER * luck) for pause in wanted])
    assert (delivery.status, delivery.reason, len(delivery.attempts)) == ("failed", EXHAUSTED, len(SCHEDULE))


@pytest.mark.parametrize(
    ("status", "taken"), [(200, True), (204, True), (299, True), (301, False), (308, False), (404, False), (199, False)]
)
def test_only_2xx_is_a_success(status: int, taken: bool) -> None:
    delivery = FRESH.tried(attempt(status), SCHEDULE, luck=0.0)
    assert (delivery.status, delivery.due is None) == (("delivered", True) if taken else ("pending", False))


def test_a_pause_begins_when_the_attempt_ended_and_is_as_long_as_the_receiver_asks_for() -> None:
    assert FRESH.tried(attempt(None, took=20.0), SCHEDULE, luck=0.0).due == NOW + timedelta(seconds=25)
    assert FRESH.tried(attempt(429), SCHEDULE, luck=0.0, least=60.0).due == NOW + timedelta(seconds=60)
    assert FRESH.tried(attempt(429), SCHEDULE, luck=0.0, least=1.0).due == NOW + timedelta(seconds=5)


def test_what_is_refused_is_not_tried_again_and_what_is_replayed_is_from_the_beginning() -> None:
    refused = FRESH.tried(attempt(), SCHEDULE, luck=0.0).refused(attempt(410), "gone")
    assert (refused.status, refused.due, refused.reason, refused.tries) == ("failed", None, "gone", 2)
    again = refused.replayed(NOW)
    assert (again.status, again.due, again.reason, again.tries) == ("pending", NOW, None, 0)
    assert again.attempts == refused.attempts
    assert (again.id, again.body) == (FRESH.id, FRESH.body)


def test_of_attempts_without_end_the_newest_are_kept() -> None:
    delivery = FRESH
    for number in range(MOST_ATTEMPTS + 5):
        delivery = delivery.replayed(NOW).tried(attempt(200 + number), SCHEDULE, luck=0.0)
    assert [one.status for one in delivery.attempts][:: MOST_ATTEMPTS - 1] == [205, 254]
