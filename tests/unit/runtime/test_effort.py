from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.runtime.effort import GUESS, Effort

ENVELOPE = 600

sizes = st.integers(ENVELOPE, 100_000)


def after(*jobs: tuple[int, int], most: int = 0) -> Effort:
    """What is known after jobs of these sizes and tokens."""
    return functools.reduce(lambda effort, job: effort.and_job(*job, most=most), jobs, Effort())


def test_a_job_of_the_usual_size_takes_what_jobs_took() -> None:
    assert after((700, 90), (700, 110)).of(700) == pytest.approx(100, abs=0.5)


def test_before_sizes_have_differed_four_bytes_more_are_taken_for_a_token_more() -> None:
    effort = after((700, 50), (700, 50), (700, 50))
    assert effort.per_byte == GUESS
    assert effort.of(40_700) == pytest.approx(50 + 10_000)
    assert effort.of(100) == 0.0, "less than nothing"


@given(st.lists(sizes, min_size=20, max_size=60), st.floats(0.0, 0.6), st.integers(10, 500), sizes)
def test_once_sizes_have_differed_it_is_known_what_a_byte_is_worth(
    seen: list[int], per_byte: float, always: int, asked: int
) -> None:
    effort = after((ENVELOPE, always), (100_000, round(always + 99_400 * per_byte)))
    for size in seen:
        effort = effort.and_job(size, round(always + (size - ENVELOPE) * per_byte))
    assert effort.of(asked) == pytest.approx(always + (asked - ENVELOPE) * per_byte, abs=100, rel=0.05)


def test_prompts_that_do_not_grow_with_their_messages_are_not_taken_to() -> None:
    effort = after(*((size, 300) for size in (1_000, 90_000, 5_000, 60_000) * 5))
    assert effort.of(200_000) == pytest.approx(300, rel=0.05)


def test_what_was_lately_counts_more_than_what_was_long_ago() -> None:
    effort = after(*([(700, 1_000)] * 500), *([(700, 100)] * 200))
    assert effort.of(700) == pytest.approx(100, rel=0.2)


def test_no_job_is_taken_to_need_more_than_the_model_takes_unless_they_do() -> None:
    assert after((700, 50), most=8_192).of(1_000_000) == 8_192
    assert after((700, 20_000), most=8_192).of(1_000_000) == 20_000


jobs = st.lists(st.tuples(sizes, st.integers(0, 10_000)), max_size=20)


@given(jobs, jobs)
def test_what_two_workers_know_together_is_what_one_would_that_had_the_jobs_of_both(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    def unfaded(of: list[tuple[int, int]]) -> Effort:
        alone = (Effort(jobs=1.0, bytes=bytes, tokens=tokens, most=100) for bytes, tokens in of)
        return functools.reduce(Effort.joined, alone, Effort())

    together, both = unfaded(one).joined(unfaded(other)), unfaded([*one, *other])
    assert together.model_dump() == pytest.approx(both.model_dump(), rel=1e-6, abs=1e-3)


@given(jobs, st.integers(0, 1 << 20))
def test_it_is_never_less_than_nothing(seen: list[tuple[int, int]], asked: int) -> None:
    assert after(*seen).of(asked) >= 0


def test_it_travels_whole_and_what_a_later_version_adds_is_passed_over() -> None:
    effort = after((700, 90), (1_700, 300), most=8_192)
    assert Effort.model_validate_json(effort.model_dump_json()) == effort
    assert Effort.model_validate({**effort.model_dump(), "later": 1}) == effort
