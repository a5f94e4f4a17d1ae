from __future__ import annotations

import re

import pytest

from actors.contracts.limits import LIMITS, Limits
from actors.http.ledger import WINDOW_S, Ledger
from actors.http.problem import TOO_LARGE, Refusal
from actors.http.quotas import Quotas
from actors.journal import Refused, Unanswered, Undecided
from actors.journal.mirror import Mirror

TENANT = "acme"


class Now:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


class Knowing(Mirror[Limits]):
    """A mirror of what a test has set."""

    def __init__(self, **limits: Limits) -> None:
        super().__init__(LIMITS, Limits)
        self._values.update(limits)


def limited(now: Now, **caps: int) -> Quotas:
    return Quotas(Knowing(acme=Limits.model_validate(caps)), ["write"], clock=now)


def let_in(quotas: Quotas, job: str, tenant: str = TENANT) -> dict[str, str]:
    with quotas.letting_in(tenant, job) as headers:
        return headers


def refused(quotas: Quotas, job: str) -> Refusal:
    with pytest.raises(Refusal) as raised:
        let_in(quotas, job)
    assert raised.value.kind.status == 429
    return raised.value


def headers_of(refusal: Refusal) -> dict[str, str]:
    return dict(refusal.headers or {})


def test_who_is_not_limited_is_told_nothing_and_let_in() -> None:
    quotas = limited(Now(), jobs_per_minute=1)
    assert [let_in(quotas, f"job {n}", "other") for n in range(9)] == [{}] * 9


def test_the_jobs_of_any_minute_are_limited() -> None:
    now = Now()
    quotas = limited(now, jobs_per_minute=2)
    assert let_in(quotas, "a") == {"RateLimit-Policy": '"jobs";q=2;w=60', "RateLimit": '"jobs";r=1;t=60'}
    now.at += 40
    assert let_in(quotas, "b")["RateLimit"] == '"jobs";r=0;t=20'
    said = headers_of(refused(quotas, "c"))
    assert said == {"Retry-After": "20", "RateLimit-Policy": '"jobs";q=2;w=60', "RateLimit": '"jobs";r=0;t=20'}
    now.at += 19.9
    assert headers_of(refused(quotas, "c"))["Retry-After"] == "1"
    now.at += 0.2
    let_in(quotas, "c")
    refused(quotas, "d")


def test_who_is_asked_to_come_back_is_told_what_to_do() -> None:
    quotas = limited(Now(), jobs_per_minute=1)
    let_in(quotas, "a")
    refusal = refused(quotas, "b")
    assert re.fullmatch(
        r"This tenant may submit 1 jobs in a minute, and has\. Send the same request again in 60 s\.", refusal.detail
    )
    assert (refusal.more["limit"], refusal.more["most"]) == ("jobs", 1)


def test_the_same_job_again_is_no_other_one() -> None:
    quotas = limited(Now(), jobs_per_minute=1, running=1)
    let_in(quotas, "a")
    let_in(quotas, "a")
    refused(quotas, "b")


@pytest.mark.parametrize("error", [Refusal(TOO_LARGE, "too large"), Refused(7), Unanswered("the log is away")])
def test_what_could_not_be_stored_does_not_count(error: Exception) -> None:
    quotas = limited(Now(), jobs_per_minute=1, running=1)
    with pytest.raises(type(error)), quotas.letting_in(TENANT, "a"):
        raise error
    let_in(quotas, "b")


def test_what_nobody_knows_to_be_stored_counts() -> None:
    quotas = limited(Now(), running=1)
    with pytest.raises(Undecided), quotas.letting_in(TENANT, "a"):
        raise Undecided("no answer")
    refused(quotas, "b")


def test_a_job_that_runs_and_is_sent_again_still_counts() -> None:
    quotas = limited(Now(), running=1)
    let_in(quotas, "a")
    with pytest.raises(Refused), quotas.letting_in(TENANT, "a"):
        raise Refused(7)
    refused(quotas, "b")


def test_what_may_be_without_an_outcome_is_let_in_as_jobs_end() -> None:
    now, ledger = Now(), Ledger()
    ledger.begin("a", now())
    ledger.begin("b", now())
    assert [one.left for one in ledger.accounts({"running": 2}, now())] == [0]
    ledger.end("a", 0, now())
    assert [one.left for one in ledger.accounts({"running": 2}, now())] == [1]


def test_tokens_count_for_a_minute_after_the_jobs_end_that_used_them() -> None:
    now, ledger = Now(), Ledger()
    for tokens in (30, 40, 50):
        ledger.begin(job := f"{tokens}", now())
        ledger.end(job, tokens, now())
        now.at += 10
    (account,) = ledger.accounts({"tokens": 100}, now())
    assert (account.left, account.more_in) == (0, WINDOW_S - 30)
    (account,) = ledger.accounts({"tokens": 121}, now())
    assert account.left == 1
    now.at += WINDOW_S - 29
    (account,) = ledger.accounts({"tokens": 100}, now())
    assert account.left == 10


def test_the_list_of_what_is_open_is_older_than_what_is_told_meanwhile() -> None:
    now, ledger = Now(), Ledger()
    ledger.begin("lost", now())
    now.at += 1
    ledger.expect_list()
    since = now()
    ledger.begin("new", now())
    ledger.end("just ended", 0, now())
    ledger.correct({"just ended", "old"}, since)
    assert ledger.open == {"old", "new"}


def test_what_waits_is_what_was_seen_and_what_was_let_in_since() -> None:
    now = Now()
    quotas = limited(now, waiting=2)
    let_in(quotas, "a")
    quotas._ledgers[TENANT].waiting = 1
    assert let_in(quotas, "b") == {"RateLimit-Policy": '"waiting";q=2', "RateLimit": '"waiting";r=0'}
    assert headers_of(refused(quotas, "c"))["Retry-After"] == "30"
