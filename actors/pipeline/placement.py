"""Placement: what kind of machine one replica of a stage needs, and what of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Placeable(Protocol):
    """Something that a stage uses and that is set up by the GPUs that its replica has."""

    def mistake_on(self, gpus: float) -> str | None:
        """What is wrong with so many GPUs for it, and how it is put right; None when nothing is."""
        ...


@dataclass(frozen=True, slots=True)
class Placement:
    """What one replica occupies: whole GPUs or a part of one, of a certain kind or of any, and CPUs."""

    gpus: float = 0.0
    cpus: float = 0.1
    accelerator: str | None = None

    @property
    def mistake(self) -> str | None:
        """What is wrong with it, and how it is put right; None when nothing is."""
        if not (self.gpus >= 0 and self.cpus >= 0):
            return f"gpus={self.gpus} and cpus={self.cpus} must be 0 or more"
        if self.gpus > 1 and self.gpus != int(self.gpus):
            return f"gpus={self.gpus} must be a part of one GPU, as 0.5, or whole ones, as {int(self.gpus) + 1}"
        if self.accelerator is not None:
            return self._wrong_accelerator(self.accelerator)
        return None

    def _wrong_accelerator(self, accelerator: str) -> str | None:
        if not (isinstance(accelerator, str) and accelerator.strip()):
            return f"accelerator={accelerator!r} must be a kind of GPU as Ray calls it, for example 'H100'"
        if not self.gpus:
            return f"accelerator={accelerator!r} is of no use without a GPU; add gpus=1, or leave it out"
        return None
