"""Wishes: what a client sends about a job that is there already."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Reason = Annotated[str, Field(min_length=1, max_length=500)]


class Wish(BaseModel):
    """Anything that is wanted of a job."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Cancelling(Wish):
    """That it stops."""

    reason: Reason | None = Field(default=None, description="Why; it is kept with the job.")
