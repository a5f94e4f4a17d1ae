"""Prices: what compute costs, as whoever asks says."""

from __future__ import annotations

from dataclasses import dataclass

HOUR_S = 3600
GPU_HOUR = 3.0
CPU_HOUR = 0.04


@dataclass(frozen=True, slots=True)
class Prices:
    """What an hour of a GPU costs, and of a CPU core, in whatever currency."""

    gpu_hour: float = GPU_HOUR
    cpu_hour: float = CPU_HOUR

    def per_s(self, gpus: float, cores: float) -> float:
        """What so much of either costs a second."""
        return (gpus * self.gpu_hour + cores * self.cpu_hour) / HOUR_S

    def __str__(self) -> str:
        return f"{self.gpu_hour:g} a GPU-hour, {self.cpu_hour:g} a core-hour"
