from __future__ import annotations

import pytest

from benchmarks.curve import Curve, Point, Series, Window
from benchmarks.followed import Followed
from benchmarks.pipelines import crunch, think
from benchmarks.prices import Prices
from benchmarks.processes import CLIENT

SERIES = Series("GPU", think, 32, 500)


PRICES = Prices(gpu_hour=8.0, cpu_hour=0.1)
BUSY = {"crunch": 0.3, "think": 0.2, CLIENT: 0.9}


def a_curve(*rates: int) -> Curve:
    """One, two, four … replicas that end so many jobs of ten tokens in each of four seconds."""
    points = []
    for at, rate in enumerate(rates):
        ends = [second + (job + 0.5) / rate for second in range(4) for job in range(rate)]
        jobs = [Followed(posted=end - 0.5, first=end - 0.25, ended=end, tokens=10) for end in ends]
        points.append(Point(SERIES, 2**at, [Window(jobs, 0.0, 4.0, BUSY)]))
    return Curve(tuple(points), crunch, PRICES, on_gpus=True)


def told(curve: Curve, question: str) -> list[float]:
    return [measure.estimate.value for measure in curve.measures() if measure.question == question]


def test_a_point_tells_jobs_tokens_and_waits() -> None:
    curve = a_curve(8, 16)
    assert told(curve, "jobs/s") == [8, 16]
    assert told(curve, "tokens/s") == [80, 160]
    assert told(curve, "time to first token, p50") == [0.25, 0.25]


def test_a_million_tokens_cost_the_gpus_that_are_occupied_and_the_cores_that_are_busy() -> None:
    cores = 0.5
    hours = [replicas * 0.25 * PRICES.gpu_hour + cores * PRICES.cpu_hour for replicas in (1, 2)]
    per_million = [hour / 3600 / rate * 1_000_000 for hour, rate in zip(hours, (80, 160), strict=True)]
    assert told(a_curve(8, 16), "cost of a million tokens") == pytest.approx(per_million, rel=1e-3)


@pytest.mark.parametrize(
    ("rates", "replicas"), [((8, 16, 32), 4), ((8, 16, 20), 2), ((8, 11, 22), 1), ((8, 8, 8), 1), ((8,), 1)]
)
def test_a_stage_is_saturated_where_more_replicas_bring_little(rates: tuple[int, ...], replicas: int) -> None:
    assert told(a_curve(*rates), "saturates at, replicas") == [replicas]
