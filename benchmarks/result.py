"""A result: what a benchmark measured, as it is kept in benchmarks/results/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, computed_field

from benchmarks.estimate import Estimate
from benchmarks.machine import Machine, versions

RESULTS = Path(__file__).parent / "results"


class Bar(BaseModel):
    """What a measure has to reach: at least, or at most."""

    model_config = ConfigDict(frozen=True)

    least: float | None = None
    most: float | None = None

    def is_met(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"


class Measure(BaseModel):
    """One number: the question it answers, under which load, what it was made of in words, and in figures."""

    model_config = ConfigDict(frozen=True)

    part: str
    question: str
    load: str
    estimate: Estimate
    unit: str = ""
    detail: str = ""
    bar: Bar | None = None
    raw: dict[str, JsonValue] = Field(default_factory=dict)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def met(self) -> bool | None:
        """Whether it reaches its bar; None where there is none."""
        return self.bar.is_met(self.estimate.value) if self.bar else None


class Result(BaseModel):
    """What one run of a benchmark measured, where, with which versions, and how what it compared with was set."""

    model_config = ConfigDict(frozen=True)

    benchmark: str
    at: datetime
    seconds: float
    quick: bool
    machine: Machine
    versions: dict[str, str]
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    measures: tuple[Measure, ...]

    @classmethod
    def of(
        cls,
        benchmark: str,
        machine: Machine,
        measures: list[Measure],
        *,
        began: datetime,
        quick: bool,
        beside: Sequence[str] = (),
        settings: Mapping[str, JsonValue] | None = None,
    ) -> Self:
        """One that ends now. `beside` are packages that it compared with."""
        now = datetime.now(UTC)
        return cls(
            benchmark=benchmark,
            at=began,
            seconds=round((now - began).total_seconds(), 1),
            quick=quick,
            machine=machine,
            versions=versions(beside),
            settings=dict(settings or {}),
            measures=tuple(measures),
        )

    @classmethod
    def read(cls, benchmark: str, folder: Path = RESULTS) -> Self:
        """The result that is kept. Raises FileNotFoundError."""
        return cls.model_validate_json((folder / f"{benchmark}.json").read_bytes())

    def write(self, folder: Path = RESULTS) -> Path:
        """Keep it, in place of the one before."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.benchmark}.json"
        path.write_text(self.model_dump_json(indent=1) + "\n")
        return path
