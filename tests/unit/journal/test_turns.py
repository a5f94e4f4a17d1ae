from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.journal.turns import Turns

SHARES = st.dictionaries(st.integers(0, 32), st.sampled_from([0.5, 1.0, 2.0, 5.0]), min_size=2, max_size=6)


def starts(turns: Turns, waiting: Callable[[int], Collection[int]], places: int) -> list[int]:
    """Who is started, one after the other, where at each place some have jobs that wait."""
    order = []
    for at in range(places):
        share, given = turns.next(waiting(at), 1)
        assert given == 1
        turns.took(share, given)
        order.append(share)
    return order


def test_two_of_the_same_weight_go_in_turn() -> None:
    order = starts(Turns(lambda share: 1.0), lambda _: {3, 7}, 10)
    assert order in ([3, 7] * 5, [7, 3] * 5)


@given(SHARES)
def test_all_that_have_work_are_started_in_proportion_to_their_weights(weights: dict[int, float]) -> None:
    started = Counter(starts(Turns(weights.__getitem__), lambda _: weights.keys(), 200))
    whole = sum(weights.values())
    for share, weight in weights.items():
        assert abs(started[share] - 200 * weight / whole) <= max(weights.values()) / min(weights.values()) + 1


@given(SHARES, st.integers(1, 50))
def test_places_that_are_given_at_once_are_given_by_weight_too(weights: dict[int, float], places: int) -> None:
    turns, one_by_one = Turns(weights.__getitem__), Turns(weights.__getitem__)
    given: Counter[int] = Counter()
    waiting, left = set(weights), places
    while left:
        share, most = turns.next(waiting, left)
        turns.took(share, most)
        given[share], left = most, left - most
        waiting.discard(share)
    assert given == Counter(starts(one_by_one, lambda _: weights.keys(), places))


def test_one_that_had_nothing_waiting_goes_next_and_is_owed_no_more_than_that() -> None:
    order = starts(Turns(lambda share: 1.0), lambda at: {1} if at < 100 else {1, 2}, 110)
    assert order[100] == 2
    assert Counter(order[100:]) == {1: 5, 2: 5}


@pytest.mark.parametrize("places", [1, 7])
def test_one_alone_has_all_places(places: int) -> None:
    assert Turns(lambda share: 1.0).next({4}, places) == (4, places)


def test_what_was_not_there_is_not_counted() -> None:
    turns = Turns(lambda share: 1.0)
    turns.took(1, 0)
    assert turns.next({1, 2}, 1) == (1, 1)
