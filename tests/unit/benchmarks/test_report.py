from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.estimate import Estimate
from benchmarks.machine import Machine
from benchmarks.report import README, table, with_results
from benchmarks.result import Bar, Measure, Result

MACHINE = Machine(cpu="Mill 9", cores=2, memory_gib=24, kernel="6.1", gpu=None, sync_ms=0.24, load_before=0.1)
KEPT = Measure(
    part="a",
    question="tokens/s over the bare engine",
    load="8 streams",
    estimate=Estimate(value=0.97, low=0.96, high=0.981),
    bar=Bar(least=0.9),
    detail="97/s of 100/s",
)
LATE = Measure(
    part="b",
    question="added time to first token, p50",
    load="1 stream",
    estimate=Estimate(value=8.5, low=8.0, high=9.1),
    unit="appends",
    bar=Bar(most=8),
)
SAMPLE = Result(
    benchmark="sample",
    at=datetime(2026, 1, 2, tzinfo=UTC),
    seconds=12.0,
    quick=False,
    machine=MACHINE,
    versions={"python": "3.11.7"},
    measures=(KEPT, LATE),
)


def test_a_measure_says_whether_it_reaches_its_bar() -> None:
    assert (KEPT.met, LATE.met) == (True, False)
    assert KEPT.model_copy(update={"bar": None}).met is None


def test_a_result_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    SAMPLE.write(tmp_path)
    assert Result.read("sample", tmp_path) == SAMPLE


def test_a_table_has_a_row_for_each_measure_and_says_where_it_was_taken() -> None:
    assert table(SAMPLE).splitlines()[2:] == [
        "| (a) tokens/s over the bare engine | 8 streams | 0.97 (0.96 to 0.981) | ≥ 0.9 | met | 97/s of 100/s |",
        "| (b) added time to first token, p50 | 1 stream | 8.5 appends (8 to 9.1) | ≤ 8 appends | **missed** |  |",
        "",
        "`benchmarks/results/sample.json`, 2026-01-02, 12 s: 2 cores (Mill 9), 24 GiB, Linux 6.1; "
        "a synced write of 4 KiB takes 0.24 ms; python 3.11.7.",
    ]


def test_a_table_stands_between_its_markers_and_is_replaced_there(tmp_path: Path) -> None:
    SAMPLE.write(tmp_path)
    text = "before\n<!-- results:sample -->\nan old table\n<!-- end -->\nafter\n"
    written = with_results(text, tmp_path)
    assert written == f"before\n<!-- results:sample -->\n{table(SAMPLE)}<!-- end -->\nafter\n"
    assert with_results(written, tmp_path) == written


def test_a_place_for_a_result_that_is_not_kept_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        with_results("<!-- results:nothing -->\n<!-- end -->\n", tmp_path)


def test_the_readme_says_what_the_results_say() -> None:
    text = README.read_text()
    assert "<!-- results:overhead -->" in text
    assert with_results(text) == text, "run `python -m benchmarks.report`"
