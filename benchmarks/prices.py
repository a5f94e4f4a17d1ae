"""Prices: what compute costs, as whoever asks says; what replicas cost follows from what they occupy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from actors.pipeline import Stage

HOUR_S = 3600
GPU_HOUR = 3.0
CPU_HOUR = 0.04


@dataclass(frozen=True, slots=True)
class Prices:
    """What an hour of a GPU costs, and of a CPU core, in whatever currency. Where there are no GPUs, none are paid."""

    gpu_hour: float = GPU_HOUR
    cpu_hour: float = CPU_HOUR
    on_gpus: bool = True

    def per_s(self, replicas: Iterable[tuple[Stage, int]]) -> float:
        """What so many replicas of these stages cost a second."""
        return sum(number * self._hour(stage) for stage, number in replicas) / HOUR_S

    def _hour(self, stage: Stage) -> float:
        return stage.cpus * self.cpu_hour + (stage.gpus * self.gpu_hour if self.on_gpus else 0.0)

    def __str__(self) -> str:
        cores = f"{self.cpu_hour:g} a core-hour"
        return f"{self.gpu_hour:g} a GPU-hour, {cores}" if self.on_gpus else cores
