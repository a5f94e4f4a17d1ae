"""How long to stay away follows from how fast something leaves, within bounds."""

from __future__ import annotations

from actors.http.drain import LONGEST_S, STANDSTILL_S, Drain


def drain(*seen: tuple[float, float]) -> Drain:
    made = Drain(window=30.0)
    for at, total in seen:
        made.note(at, total)
    return made


def test_the_rate_is_what_left_in_the_time_that_was_looked_at() -> None:
    assert drain((0.0, 100), (10.0, 150)).rate == 5.0


def test_what_was_long_ago_does_not_count() -> None:
    assert drain((0.0, 0), (60.0, 6_000), (90.0, 6_030)).rate == 1.0


def test_it_is_asked_back_in_whole_seconds_when_so_much_has_left() -> None:
    assert drain((0.0, 0), (10.0, 50)).retry_after(26) == 6
    assert drain((0.0, 0), (10.0, 50)).retry_after(0.1) == 1


def test_nobody_is_sent_away_for_longer_than_the_bound() -> None:
    assert drain((0.0, 0), (10.0, 1)).retry_after(1e9) == LONGEST_S


def test_where_nothing_leaves_or_nothing_is_known_the_wait_is_a_sensible_one() -> None:
    for standing in (drain(), drain((0.0, 7)), drain((0.0, 7), (10.0, 7)), drain((1.0, 7), (1.0, 9))):
        assert standing.retry_after(5) == STANDSTILL_S


def test_a_total_that_went_back_begins_anew() -> None:
    assert drain((0.0, 1_000), (10.0, 0), (20.0, 20)).rate == 2.0
