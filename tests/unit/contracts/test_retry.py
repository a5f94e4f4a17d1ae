from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.contracts.retry import Retry


class Highest(Random):
    """Chance that always falls on the longest."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_delays_double_from_the_first_up_to_the_longest() -> None:
    retry = Retry(first=0.5, longest=3.0)
    assert [retry.delay(failures, Highest()) for failures in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


@given(st.integers(1, 10_000), st.integers())
def test_a_delay_lies_between_zero_and_the_longest_after_any_number_of_failures(failures: int, seed: int) -> None:
    assert 0.0 <= Retry().delay(failures, Random(seed)) <= Retry().longest


@pytest.mark.parametrize(
    ("failures", "crashes", "spent"),
    [(0, 0, False), (1, 3, False), (1, 4, True), (2, 0, True), (3, 0, True), (0, 4, True), (1, 0, False)],
)
def test_failures_and_crashes_have_budgets_of_their_own(failures: int, crashes: int, spent: bool) -> None:
    assert Retry(attempts=2, crashes=4).spent(failures, crashes) is spent


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"attempts": 0}, "attempts"),
        ({"crashes": 0}, "crash"),
        ({"first": -1.0}, "first"),
        ({"first": 2.0, "longest": 1.0}, "longest"),
        ({"first": float("nan")}, "first"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_by_name(wrong: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Retry(**wrong)  # type: ignore[arg-type]
