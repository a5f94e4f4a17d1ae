"""What is carried on: one version writes it, and another passes it on, or changes it where it is kept."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Carried(BaseModel):
    """Fields that this version does not know stay in it.

    While versions are mixed, an older worker repeats in the outcome what a newer ingress asked for, and whoever changes
    one thing that is kept changes nothing else.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
