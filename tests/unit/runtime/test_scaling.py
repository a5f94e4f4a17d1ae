from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.pipeline import Job, Replicas, stage
from actors.runtime.scaling import GAP_S, KNOWN_FOR_S, START_S, Decision, Load, Memory, Rule, Tokens
from tests.pipelines import Prepared, Wish

RULE = Rule(min=0, max=4, lag_per_replica=8, concurrency=8, max_wait=30.0, down_after=60.0)
BY_TOKENS = replace(RULE, tokens_per_replica=8_000)
TICK_S = 0.25


@dataclass
class Stage:
    """A stage whose replicas start at once, unless `ready` says how many do; it counts every decision."""

    rule: Rule
    target: int = 0
    now: float = 1_000.0
    memory: Memory | None = None
    last: Decision | None = None

    def see(self, waiting: int = 0, running: int = 0, *, after: float = TICK_S, **more: Any) -> int:
        """What it is scaled to on this load."""
        self.now += after
        more.setdefault("ready", self.target)
        self.decide(Load(self.now, waiting, running, **more))
        return self.target

    def decide(self, load: Load | None) -> None:
        self.last, self.memory = self.rule.decide(self.memory, load, now=self.now, target=self.target)
        self.target = self.last.replicas

    @property
    def reason(self) -> str:
        return self.last.reason if self.last else ""


@pytest.mark.parametrize(
    ("waiting", "running", "wanted"),
    [(0, 0, 0), (1, 0, 1), (0, 1, 1), (8, 0, 1), (4, 5, 2), (16, 0, 2), (17, 0, 3), (1_000, 8, 4)],
)
def test_what_waits_and_what_runs_is_shared_out_and_bounded(waiting: int, running: int, wanted: int) -> None:
    assert Stage(RULE).see(waiting, running) == wanted


def test_the_reason_names_the_lag_and_the_bound() -> None:
    stage = Stage(RULE)
    stage.see(50, 3)
    assert stage.reason == "50 wait and 3 run, 8 for each replica; 4 is the most"


def test_without_work_there_is_the_least() -> None:
    stage = Stage(replace(RULE, min=2), target=2)
    assert [stage.see() for _ in range(1_000)] == [2] * 1_000


def test_there_is_always_one_more_than_the_load_needs_where_one_is_to_spare() -> None:
    stage = Stage(replace(RULE, spare=1), target=1)
    assert [stage.see(lag) for lag in (0, 1, 9, 32, 1_000)] == [1, 2, 3, 5, 5]
    assert stage.reason == "1000 wait and 0 run, 8 for each replica; 4 is the most; 1 to spare"
    assert (stage.rule.least, stage.rule.most) == (1, 5)


def test_what_the_spare_could_do_is_not_counted_when_a_job_waits_for_long() -> None:
    stage = Stage(replace(RULE, lag_per_replica=100, spare=1), target=2)
    stage.see(9, waited=29.0)
    assert {stage.see(9, waited=31.0, after=1.0) for _ in range(40)} == {2, 3}


def test_there_are_fewer_only_after_fewer_were_enough_for_so_long() -> None:
    stage = Stage(RULE)
    assert stage.see(32) == 4
    seen = [stage.see(1) for _ in range(int(60 / TICK_S))]
    assert set(seen) == {4}
    assert stage.reason.endswith("fewer once that was so for 60 s")
    assert stage.see(1) == 1
    assert [stage.see(after=30), stage.see(after=1), stage.see(after=GAP_S), stage.see()] == [1, 1, 1, 1]


def test_a_peak_within_that_time_holds_what_there_is() -> None:
    stage = Stage(RULE, target=2)
    for _ in range(20):
        assert {stage.see(1, after=4.0) for _ in range(14)} == {2}
        assert stage.see(9) == 2


def test_it_comes_down_to_the_most_that_was_needed_meanwhile() -> None:
    stage = Stage(RULE)
    assert stage.see(32) == 4
    assert {stage.see(10, after=2.0) for _ in range(28)} == {4}
    assert stage.see(0, after=4.1) == 2


def test_a_stage_that_starts_is_not_made_smaller() -> None:
    stage = Stage(RULE)
    stage.see(32)
    assert {stage.see(0, after=2.0, ready=2, failed=1) for _ in range(200)} == {4}
    assert stage.reason.endswith("fewer once all have started")
    assert stage.see(0, ready=3, failed=1) == 0


def test_a_start_that_never_ends_is_given_up() -> None:
    stage = Stage(RULE)
    stage.see(8)
    assert {stage.see(0, after=2.0, ready=0) for _ in range(int(START_S / 2) - 1)} == {1}
    assert stage.see(0, after=2.0, ready=0) == 0


def test_a_stage_that_starts_may_still_grow() -> None:
    stage = Stage(RULE)
    assert (stage.see(1), stage.see(9, ready=0), stage.see(32, ready=0)) == (1, 2, 4)


def test_an_unknown_load_holds_whatever_there_is() -> None:
    stage = Stage(RULE, target=3)
    stage.decide(None)
    assert (stage.target, stage.reason) == (3, "held: how much waits is not known")
    stage.see(0)
    for _ in range(1_000):
        stage.now += 1.0
        stage.decide(Load(stage.now - KNOWN_FOR_S - 0.01, 100, 0))
        assert stage.target == 3


def test_after_a_gap_it_waits_anew_before_there_are_fewer() -> None:
    stage = Stage(RULE, target=3)
    stage.see(0)
    assert stage.see(0, after=10_000.0) == 3
    assert {stage.see(0) for _ in range(int(60 / TICK_S))} == {3}
    assert stage.see(0) == 0


def test_what_runs_is_a_reason_against_fewer_but_none_for_more() -> None:
    stage = Stage(replace(RULE, lag_per_replica=100), target=2)
    assert {stage.see(0, 16, after=1.0) for _ in range(200)} == {2}
    assert {stage.see(0, 40, after=1.0) for _ in range(200)} == {2}
    assert [stage.see(0, 8, after=1.0) for _ in range(62)][-1] == 1


def test_a_long_wait_is_a_reason_for_one_more_at_a_time() -> None:
    stage = Stage(replace(RULE, lag_per_replica=100), target=1)
    stage.see(9, waited=29.0)
    grown = [stage.see(9, waited=31.0 + n, after=1.0) for n in range(100)]
    assert [len(list(group)) for _, group in itertools.groupby(grown)] == [29, 30, 30, 11]
    assert grown[-1] == 4
    assert stage.see(9, waited=500.0, after=1.0) == 4, "more than the most"


def test_a_long_wait_is_no_reason_while_replicas_start_or_cannot() -> None:
    stage = Stage(replace(RULE, lag_per_replica=100), target=2)
    assert {stage.see(9, waited=99.0, after=1.0, ready=1, failed=1) for _ in range(100)} == {2}


@pytest.mark.parametrize(
    ("waiting", "running", "wanted"), [(0, 0, 1), (8_000, 0, 1), (6_000, 2_001, 2), (23_999, 0, 3), (10**9, 0, 4)]
)
def test_tokens_are_a_reason_for_more_replicas_than_the_jobs_need(waiting: int, running: int, wanted: int) -> None:
    assert Stage(BY_TOKENS).see(2, 1, tokens=Tokens(waiting, running)) == wanted


def test_the_reason_names_the_tokens_where_they_decide_and_else_the_jobs() -> None:
    stage = Stage(BY_TOKENS)
    stage.see(2, 1, tokens=Tokens(41_234, 0))
    assert stage.reason == "about 41,000 tokens wait, 8,000 for each replica; 4 is the most"
    stage.see(2, 1, tokens=Tokens(19_512, 987))
    assert stage.reason.startswith("about 20,000 tokens wait and 990 run, 8,000 for each replica")
    stage.see(30, 1, tokens=Tokens(19_512, 987))
    assert stage.reason == "30 wait and 1 run, 8 for each replica"


def test_few_tokens_are_no_reason_for_fewer_replicas() -> None:
    assert Stage(BY_TOKENS).see(30, 2, tokens=Tokens(10, 0)) == 4


def test_tokens_that_nobody_knows_or_asked_for_decide_nothing() -> None:
    assert Stage(BY_TOKENS).see(2, 1, tokens=None) == 1
    assert Stage(RULE).see(2, 1, tokens=Tokens(10**9, 0)) == 1


def test_tokens_are_a_reason_against_fewer_with_a_margin() -> None:
    stage = Stage(BY_TOKENS, target=2)
    assert {stage.see(1, after=1.0, tokens=Tokens(6_500, 0)) for _ in range(200)} == {2}
    assert [stage.see(1, after=1.0, tokens=Tokens(6_400, 0)) for _ in range(62)][-1] == 1
    assert {stage.see(1, after=1.0, tokens=Tokens(8_000, 0)) for _ in range(200)} == {1}


def test_a_rule_has_one_replica_for_as_many_jobs_as_it_runs_unless_told() -> None:
    @stage(concurrency=5)
    async def polish(wish: Wish, job: Job) -> Prepared:
        return Prepared(text=wish.text)

    assert Rule.of(polish, Replicas(max=3)).lag_per_replica == 5
    assert Rule.of(polish, Replicas(max=3, lag_per_replica=2)).lag_per_replica == 2
    assert Rule.of(polish, Replicas(min=1, max=3)).min == 1
    assert Rule.of(polish, Replicas(max=3, tokens_per_replica=9)).tokens_per_replica == 9


rules = st.builds(
    Rule,
    min=st.integers(0, 3),
    max=st.integers(3, 8),
    lag_per_replica=st.integers(1, 20),
    concurrency=st.integers(1, 20),
    max_wait=st.floats(0.1, 100),
    down_after=st.floats(0, 30),
    spare=st.integers(0, 2),
    tokens_per_replica=st.none() | st.integers(1, 1_000),
)
loads = st.builds(
    Load,
    at=st.just(0.0),
    waiting=st.integers(0, 300),
    running=st.integers(0, 100),
    waited=st.floats(0, 300),
    ready=st.integers(0, 9),
    failed=st.integers(0, 2),
    tokens=st.none() | st.builds(Tokens, st.integers(0, 20_000), st.integers(0, 5_000)),
)
steps = st.tuples(st.floats(0.05, 20.0), st.none() | loads)


@given(rules, st.lists(steps, max_size=60), st.integers(0, 8))
def test_whatever_happens_it_stays_within_its_bounds_and_shrinks_for_a_reason(
    rule: Rule, story: list[tuple[float, Load | None]], at_first: int
) -> None:
    stage = Stage(rule, target=max(rule.least, min(at_first, rule.most)))
    for after, load in story:
        stage.now += after
        before = stage.target
        stage.decide(load and replace(load, at=stage.now))
        assert rule.least <= stage.target <= rule.most
        working = stage.target - rule.spare
        if load is None:
            assert stage.target == before
        if stage.target < before and load:
            assert working * rule.lag_per_replica >= load.waiting + load.running
            assert working * rule.concurrency >= load.running
            assert not (rule.tokens_per_replica and load.tokens) or working * rule.tokens_per_replica >= sum(
                (load.tokens.waiting, load.tokens.running)
            )
        if load and stage.target < rule.most:
            assert working * rule.lag_per_replica >= load.waiting + load.running


@given(rules, st.lists(st.integers(1, 200), min_size=1, max_size=20), st.lists(st.integers(0, 200), max_size=20))
def test_a_step_in_load_turns_it_round_once(rule: Rule, up: list[int], down: list[int]) -> None:
    stage = Stage(rule, target=rule.least)
    rise_and_fall = [*sorted(up), *sorted(down, reverse=True), *([0] * 200)]
    numbers = [stage.see(lag, after=1.0) for lag in rise_and_fall]
    assert turns(numbers) <= 1
    assert numbers[-1] == rule.least


@given(
    rule=rules.map(lambda rule: replace(rule, lag_per_replica=10**6, tokens_per_replica=100)),
    up=st.lists(st.integers(1, 2_000), min_size=1, max_size=20),
    down=st.lists(st.integers(0, 2_000), max_size=20),
    errors=st.lists(st.floats(0.91, 1.09), min_size=1, max_size=50),
)
def test_an_estimate_that_is_off_by_a_little_and_never_the_same_turns_it_round_once(
    rule: Rule, up: list[int], down: list[int], errors: list[float]
) -> None:
    stage = Stage(rule, target=rule.least)
    rise_and_fall = [*sorted(up), *sorted(down, reverse=True), *([0] * 200)]
    seen = (round(tokens * error) for tokens, error in zip(rise_and_fall, itertools.cycle(errors), strict=False))
    numbers = [stage.see(1, after=1.0, tokens=Tokens(tokens, 0)) for tokens in seen]
    assert turns(numbers) <= 1


@given(
    rule=rules,
    rate=st.floats(0.1, 20.0),
    work=st.floats(0.1, 5.0),
    start=st.integers(0, 40),
)
def test_a_steady_load_on_replicas_that_start_slowly_makes_it_turn_once(
    rule: Rule, rate: float, work: float, start: int
) -> None:
    rule = replace(rule, max_wait=5.0 + rule.max_wait, down_after=30.0 + rule.down_after)  # longer than a job takes
    stage = Stage(rule, target=rule.least)
    assert turns(stage.target for _ in served(stage, rate, work, start)) <= 1


def served(stage: Stage, rate: float, work: float, start: int) -> Iterator[None]:
    """Jobs that come at a steady rate, second by second, and replicas that are ready `start` seconds after they were
    wanted."""
    lag, targets = 0.0, list[int]()
    for _ in range(400):
        targets.append(stage.target)
        ready = min(targets[-start - 1 :])
        working = max(0, ready - stage.rule.spare)
        running = min(lag, working * stage.rule.concurrency)
        lag = max(0.0, lag + rate - running / work)
        jobs = math.ceil(lag)
        running = min(jobs, working * stage.rule.concurrency)
        stage.see(jobs - running, running, after=1.0, ready=ready, waited=(jobs - running) / rate)
        yield


def turns(numbers: Iterable[int]) -> int:
    """How often it went down after up, or up after down."""
    ways = [b > a for a, b in itertools.pairwise(numbers) if a != b]
    return sum(a != b for a, b in itertools.pairwise(ways))
