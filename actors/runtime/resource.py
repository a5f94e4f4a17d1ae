"""What a stage uses, as this installation has it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from actors.engines.protocol import Engine
from actors.pipeline.stage import Resource
from actors.runtime.settings import Settings


@runtime_checkable
class Settable(Protocol):
    """Something to use that an operator's settings have a say in."""

    def with_settings(self, settings: Settings) -> Resource:
        """The same, not yet opened, as these settings want it."""
        ...


def as_set(uses: Resource, settings: Settings) -> Resource:
    """What is opened for `uses` under these settings."""
    if isinstance(uses, Engine):
        return uses.with_model(settings.model) if uses.model is None and settings.model else uses
    return uses.with_settings(settings) if isinstance(uses, Settable) else uses
