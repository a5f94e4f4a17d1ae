"""Wishes: what a client sends about a job that is there already."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Reason = Annotated[str, Field(min_length=1, max_length=500)]


class Wish(BaseModel):
    """Anything that is wanted of a job."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Cancelling(Wish):
    """That it stops."""

    reason: Reason | None = Field(default=None, description="Why; it is kept with the job.")


class Answering(Wish):
    """What somebody says to a question of a job."""

    question: Annotated[int, Field(strict=True, ge=1)] = Field(
        description="Which question is meant: its `id`. An answer to an older one is never taken for a newer one."
    )
    answer: JsonValue = Field(description="Anything that fits what the question `expects`.")


class Redriving(Wish):
    """Another life for a dead letter."""

    input: dict[str, Any] | None = Field(
        default=None, description="What the stage that failed is given instead; of the same type, whole."
    )
    number: Annotated[int, Field(strict=True, ge=1)] | None = Field(
        default=None, description="Which redrive of this dead letter is meant, from 1: it makes a retry safe."
    )


class Discarding(Wish):
    """That a dead letter is left as it is."""

    reason: Reason = Field(description="Why; it is kept with the job.")
