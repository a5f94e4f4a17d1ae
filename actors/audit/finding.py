"""What an audit finds wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Flaw = Literal["altered", "missing", "reordered", "truncated", "added", "differs", "checkpoint"]
"""Bytes that changed; entries that are gone; out of order; gone at the end; that do not belong; a state that is not
what the log says; and checkpoints that do not hold together."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, with the job that it is about; none when that cannot be known."""

    flaw: Flaw
    job: str
    detail: str

    def __str__(self) -> str:
        return f"{self.flaw:<11}{self.job or '(which job is not known)'}  {self.detail}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
