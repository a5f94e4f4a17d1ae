from __future__ import annotations

import pytest

from actors.contracts.errors import MAX_MESSAGE, MAX_TRACE, Failure, RetryableError


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


def test_a_failure_says_what_was_raised_and_where() -> None:
    failure = Failure.of(raised(ValueError("too hot")))
    assert (failure.type, failure.message) == ("ValueError", "too hot")
    assert "in raised" in failure.trace


def test_a_failure_is_cut_to_a_few_kilobytes() -> None:
    failure = Failure.of(raised(ValueError("x" * 1_000_000)))
    assert len(failure.message) == MAX_MESSAGE
    assert len(failure.trace) == MAX_TRACE


@pytest.mark.parametrize("message", ["caf\udce9.txt", "\ud800", "\x00", "\U0001f600"])
def test_a_failure_can_be_stored_whatever_its_message(message: str) -> None:
    failure = Failure.of(raised(OSError(message)))
    assert Failure.model_validate_json(failure.model_dump_json()) == failure


def test_an_error_that_cannot_be_shown_is_a_failure_too() -> None:
    failure = Failure.of(raised(Unspeakable()))
    assert failure.type == "Unspeakable"
    assert "str() failed" in failure.message


def test_a_retryable_error_carries_its_delay() -> None:
    assert RetryableError("busy", delay=2.5).delay == 2.5
    assert RetryableError("busy").delay is None
