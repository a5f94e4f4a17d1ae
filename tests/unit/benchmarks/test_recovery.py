from __future__ import annotations

from benchmarks.recovery import NOT_WASTED, RECOVERED, RESTARTED
from benchmarks.restarting import Restarted, restarted
from benchmarks.taking_over import Load, TakenOver, taken_over
from benchmarks.wasting import Block, wasted


def test_a_takeover_is_told_as_a_multiple_of_the_bare_prefill() -> None:
    kills = [TakenOver(claimed=0.3, ours=1.4, bare=1.0), TakenOver(claimed=0.3, ours=1.2, bare=1.0)]
    p50, p95 = taken_over("an engine", kills, RECOVERED)
    assert p50.estimate.value == 1.3
    assert (p50.met, p95.met) == (True, None)
    assert p50.detail == "1300 ms, bare 1000 ms; with the spare after 300 ms"
    assert p95.estimate.value == 1.39


def test_waste_is_told_over_all_blocks_and_a_lost_job_misses_the_bar() -> None:
    good = Block(jobs=100, resumed=9, computed=1_010, needed=1_000, completed=100)
    bad = Block(jobs=100, resumed=9, computed=1_010, needed=1_000, completed=99)
    tokens, lost = wasted([good, good], NOT_WASTED)
    assert (tokens.estimate.value, tokens.met, lost.estimate.value, lost.met) == (1.01, True, 0, True)
    assert tokens.detail == "2020 of 2000; 18 jobs were taken over"
    assert wasted([good, bad], NOT_WASTED)[1].met is False


def test_a_restart_is_told_as_a_multiple_of_a_bare_one() -> None:
    p50, _ = restarted([Restarted(ours=0.12, bare=0.04)], RESTARTED)
    assert (p50.estimate.value, p50.met) == (3.0, True)


def test_no_two_prompts_have_a_beginning_in_common() -> None:
    load = Load(words=50, tokens=4, before=2)
    texts = [load.ask(number).text for number in range(20)]
    assert len({text.split()[0] for text in texts}) == 20
    assert all(45 <= len(text.split()) <= 60 for text in texts)
