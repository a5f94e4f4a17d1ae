"""What every step of a worker works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from actors.engines.protocol import Engine
from actors.journal.later import Later
from actors.journal.pull import Acks
from actors.pipeline.catalogue import Catalogue
from actors.pipeline.stage import Stage
from actors.runtime.effort import Experience
from actors.runtime.pacing import TextLanes
from actors.runtime.strangers import Strangers
from actors.runtime.writer import Pen


@dataclass(frozen=True, slots=True)
class Bench:
    """The tools on it are shared by all steps; none of them is a step's own."""

    stage: Stage
    pipelines: Catalogue
    resource: Any
    pen: Pen
    acks: Acks
    later: Later
    lanes: TextLanes
    rng: Random = field(default_factory=Random)
    strangers: Strangers = field(default_factory=Strangers)
    experience: Experience = field(default_factory=Experience)

    @property
    def claims_first(self) -> bool:
        """Engine steps and steps with effects are claimed before they begin; a pure step just appends its output."""
        return self.stage.effects or isinstance(self.resource, Engine)
