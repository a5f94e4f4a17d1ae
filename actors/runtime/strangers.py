"""Strangers: jobs of versions that a worker does not know, and that wait for one that does."""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from actors.contracts.events import Origin
from actors.runtime.presence import UnknownVersion

log = logging.getLogger(__name__)

PAUSE_S = 30.0
"""After how long a job is shown to the next worker, in seconds."""

RENEWED_AT = 25
"""With so many deliveries a hand-off is made anew: waiting is not to count as what kills workers at once."""

MOST = 10_000
"""So many are remembered."""


Given = tuple[str, int]
"""A step that was given out: the job, and the number of the step's first hand-off."""


class Strangers:
    """Remembers the jobs that this worker had to send away, so that it says so, and parses none of them again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[Given, tuple[float, str, str]] = OrderedDict()
        self._told: set[tuple[str, str]] = set()

    def __contains__(self, given: Given) -> bool:
        return given in self._seen

    def note(self, given: Given, stage: str, origin: Origin, why: str) -> None:
        """A step that was sent away; the first of its version is told to whoever reads the logs."""
        self._seen[given] = (self._clock(), origin.pipeline, origin.version)
        self._seen.move_to_end(given)
        if len(self._seen) > MOST:
            self._seen.popitem(last=False)
        which = (origin.pipeline, origin.version)
        if which not in self._told:
            self._told.add(which)
            fields = {"action": "version_unknown", "stage": stage, "pipeline": origin.pipeline}
            log.warning("jobs wait for another version", extra={**fields, "version": origin.version, "reason": why})

    def waiting(self) -> tuple[UnknownVersion, ...]:
        """What was sent away lately, by version."""
        since = self._clock() - 1.1 * PAUSE_S
        counts = Counter((pipeline, version) for at, pipeline, version in self._seen.values() if at >= since)
        return tuple(UnknownVersion(pipeline=p, version=v, jobs=n) for (p, v), n in sorted(counts.items()))
