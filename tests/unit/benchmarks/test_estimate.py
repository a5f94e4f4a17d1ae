from __future__ import annotations

from benchmarks.estimate import estimate, median, summary


def test_a_ratio_of_pairs_is_not_disturbed_by_what_disturbs_both_sides() -> None:
    pairs = [(speed * 0.9, speed) for speed in (100.0, 40.0, 90.0, 10.0)]
    found = estimate(pairs, lambda drawn: median([ours / bare for ours, bare in drawn]))
    assert (found.value, found.low, found.high) == (0.9, 0.9, 0.9)


def test_the_interval_contains_the_value_and_grows_with_the_spread() -> None:
    steady = estimate([9.0, 10.0, 11.0, 10.0, 10.0], median)
    shaky = estimate([1.0, 10.0, 19.0, 10.0, 14.0], median)
    assert steady.low <= steady.value <= steady.high
    assert shaky.high - shaky.low > steady.high - steady.low


def test_the_same_blocks_give_the_same_estimate() -> None:
    assert estimate([1.0, 2.0, 4.0], median) == estimate([1.0, 2.0, 4.0], median)


def test_one_block_is_an_estimate_without_a_spread() -> None:
    found = estimate([3.0], median)
    assert (found.value, found.low, found.high) == (3.0, 3.0, 3.0)


def test_durations_are_summed_up_in_milliseconds() -> None:
    assert summary([0.001, 0.002, 0.003]) == {"n": 3, "p50_ms": 2.0, "p90_ms": 2.8, "p99_ms": 2.98}
