from __future__ import annotations

from random import Random

from actors.client import Patience


def test_waits_double_with_jitter_up_to_the_longest() -> None:
    patience, rng = Patience(first=1.0, longest=8.0), Random(1)
    for failures, ceiling in enumerate([1, 2, 4, 8, 8, 8], start=1):
        waits = {patience.delay(failures, rng) for _ in range(100)}
        assert len(waits) == 100
        assert ceiling / 2 <= min(waits) < max(waits) <= ceiling


def test_what_is_asked_for_is_waited_out_in_addition() -> None:
    assert 10.5 <= Patience(first=1.0).delay(1, Random(1), asked=10.0) <= 11.0


def test_it_ends() -> None:
    patience = Patience(tries=3, longest_asked=60)
    assert [patience.gives_up(n) for n in (1, 2, 3)] == [False, False, True]
    assert patience.gives_up(1, asked=61)
