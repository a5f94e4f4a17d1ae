"""An estimate: a number out of repeated blocks of measurement, with the interval that a bootstrap gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

Block = TypeVar("Block")

RESAMPLES = 1_000
CONFIDENCE = 95


class Estimate(BaseModel):
    """A value, and between what it lies with 95 % confidence."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float


def estimate(blocks: Sequence[Block], statistic: Callable[[Sequence[Block]], float], *, seed: int = 1) -> Estimate:
    """`statistic` of all blocks, and how far it moves when blocks are drawn again with replacement.

    What belongs together (both sides of a comparison, taken one after the other) is one block, so that what disturbs
    both sides at once does not widen the interval.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(blocks), size=(RESAMPLES, len(blocks)))
    values = [statistic([blocks[at] for at in row]) for row in drawn]
    low, high = (percentile(values, (100 + side * CONFIDENCE) / 2) for side in (-1, 1))
    return Estimate(value=_short(statistic(blocks)), low=_short(low), high=_short(high))


def percentile(values: Sequence[float], q: float) -> float:
    """The `q`-th percentile of values in any order."""
    return float(np.percentile(np.asarray(values), q))


def median(values: Sequence[float]) -> float:
    return percentile(values, 50)


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Durations for a result file: how many, and percentiles in milliseconds."""
    return {
        "n": len(seconds),
        **{f"p{q}_ms": _short(1000 * percentile(seconds, q)) for q in (50, 90, 99)},
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")
