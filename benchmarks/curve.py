"""A curve: what numbers of replicas of one stage gave, from one replica on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from actors.pipeline import Stage
from benchmarks.estimate import estimate, median, summary
from benchmarks.followed import Followed
from benchmarks.prices import Prices
from benchmarks.processes import CLIENT, Shares, typical
from benchmarks.result import Measure

SLICE_S = 1.0
MILLION = 1_000_000

SATURATED = 0.5
"""A stage is saturated where more replicas bring less than this part of what the first one brings."""


@dataclass(frozen=True, slots=True)
class Series:
    """A stage whose replicas are counted, and what its jobs have to do."""

    kind: str
    stage: Stage
    tokens: int
    rounds: int


@dataclass(slots=True)
class Window:
    """The jobs that ended in a stretch of time, when that began and ended, and how busy the machine was."""

    jobs: list[Followed]
    begin: float
    end: float
    busy: Shares

    def slices(self) -> list[list[Followed]]:
        """The jobs, slice by slice."""
        count = max(1, min(round((self.end - self.begin) / SLICE_S), len(self.jobs) // 4))
        found: list[list[Followed]] = [[] for _ in range(count)]
        for job in self.jobs:
            at = int((job.ended - self.begin) / (self.end - self.begin) * count)
            found[min(at, count - 1)].append(job)
        return found


@dataclass(slots=True)
class Point:
    """What one number of replicas gave, in all its windows."""

    series: Series
    replicas: int
    windows: list[Window] = field(default_factory=list)

    @property
    def jobs_per_s(self) -> list[float]:
        """Jobs a second, slice by slice."""
        return [len(jobs) / length for jobs, length in self._slices()]

    @property
    def tokens_per_s(self) -> list[float]:
        return [sum(job.tokens for job in jobs) / length for jobs, length in self._slices()]

    @property
    def first_tokens(self) -> list[float]:
        return [job.generated.first_token_s for window in self.windows for job in window.jobs]

    @property
    def cores(self) -> float:
        """How many cores the installation kept busy, without its clients."""
        busy = [sum(share for role, share in window.busy.items() if role != CLIENT) for window in self.windows]
        return mean(busy)

    @property
    def load(self) -> str:
        return f"{self.replicas} replica" + ("s" if self.replicas > 1 else "")

    def _slices(self) -> list[tuple[list[Followed], float]]:
        return [
            (jobs, (window.end - window.begin) / len(slices))
            for window in self.windows
            for slices in [window.slices()]
            for jobs in slices
        ]


@dataclass(frozen=True, slots=True)
class Curve:
    """A series with all its numbers of replicas, the fewest first, and the stage that was `beside` it."""

    points: tuple[Point, ...]
    beside: Stage
    prices: Prices
    on_gpus: bool

    @property
    def series(self) -> Series:
        return self.points[0].series

    def cost(self, point: Point, tokens_per_s: Sequence[float]) -> float:
        """What a million tokens cost at such a rate: the GPUs that replicas occupy, and all cores that were busy."""
        return MILLION * self.prices.per_s(self._gpus(point), point.cores) / max(mean(tokens_per_s), 1 / MILLION)

    def _gpus(self, point: Point) -> float:
        return point.replicas * self.series.stage.gpus + self.beside.gpus if self.on_gpus else 0.0

    def saturates_at(self, rates: Sequence[float]) -> int:
        """From how many replicas on more of them bring little, at these rates; the most there were if none does."""
        numbers = [point.replicas for point in self.points]
        first = rates[0] / numbers[0]
        for at in range(len(numbers) - 1):
            if rates[at + 1] - rates[at] < SATURATED * first * (numbers[at + 1] - numbers[at]):
                return numbers[at]
        return numbers[-1]

    def measures(self) -> list[Measure]:
        return [measure for point in self.points for measure in self._at(point)] + [self._saturation()]

    def _at(self, point: Point) -> list[Measure]:
        busy: JsonValue = dict(typical([window.busy for window in point.windows]))
        times = mean(point.jobs_per_s) / mean(self.points[0].jobs_per_s)
        said = f"{times:.2f} times one replica" if point.replicas > 1 else ""
        known: dict[str, JsonValue] = {"replicas": point.replicas, "busy_cores": busy}
        prices: dict[str, JsonValue] = {"gpu_hour": self.prices.gpu_hour, "cpu_hour": self.prices.cpu_hour}
        part, load = self.series.kind, point.load
        return [
            Measure(
                part=part,
                question="jobs/s",
                load=load,
                detail=said,
                estimate=estimate(point.jobs_per_s, mean),
                raw=known | {"jobs_per_s": [round(rate, 2) for rate in point.jobs_per_s]},
            ),
            Measure(part=part, question="tokens/s", load=load, estimate=estimate(point.tokens_per_s, mean)),
            Measure(
                part=part,
                question="time to first token, p50",
                load=load,
                unit="s",
                estimate=estimate(point.first_tokens, median),
                raw={"replicas": point.replicas, "first_token": dict(summary(point.first_tokens))},
            ),
            Measure(
                part=part,
                question="cost of a million tokens",
                load=load,
                estimate=estimate(point.tokens_per_s, lambda drawn: self.cost(point, drawn)),
                detail=f"{self._gpus(point):g} GPUs, {point.cores:.2f} cores kept busy; {self.prices}",
                raw={"replicas": point.replicas, "gpus": self._gpus(point), "cores": round(point.cores, 3), **prices},
            ),
        ]

    def _saturation(self) -> Measure:
        rates = [point.jobs_per_s for point in self.points]
        least = min(len(each) for each in rates)
        numbers = ", ".join(str(point.replicas) for point in self.points)
        return Measure(
            part=self.series.kind,
            question="saturates at, replicas",
            load=f"of {numbers}",
            detail="more bring less than half of what the first brings, or there were no more",
            estimate=estimate(
                list(zip(*(each[:least] for each in rates), strict=True)),
                lambda drawn: self.saturates_at([mean(each) for each in zip(*drawn, strict=True)]),
            ),
        )


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
