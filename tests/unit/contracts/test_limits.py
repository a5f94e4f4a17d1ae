from __future__ import annotations

import pytest
from pydantic import ValidationError

from actors.contracts.limits import Limits, least_taken, weights
from actors.contracts.subjects import SHARES


def test_nobody_has_to_be_limited() -> None:
    assert Limits().caps == {}
    assert Limits(jobs_per_minute=5, running=2).caps == {"jobs": 5, "running": 2}


@pytest.mark.parametrize(
    "wrong",
    [{"weight": 0}, {"weight": -1}, {"weight": 1e6}, {"waiting": 0}, {"share": 0}, {"share": SHARES + 1}],
)
def test_a_limit_that_means_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Limits.model_validate(wrong)


def test_tenants_have_shares_of_their_own_while_there_are_any() -> None:
    given: list[Limits] = []
    for _ in range(2 * SHARES):
        given.append(Limits(share=least_taken(given)))
    assert sorted(one.share or 0 for one in given) == sorted([*range(1, SHARES + 1)] * 2)


def test_a_share_weighs_as_much_as_the_heaviest_in_it() -> None:
    assert weights([Limits(weight=2), Limits(share=1), Limits(share=1, weight=3), Limits(share=2, weight=0.5)]) == {
        1: 3.0,
        2: 0.5,
    }
