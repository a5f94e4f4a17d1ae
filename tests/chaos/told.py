"""What was told: the webhooks that a run's receiver was sent, held against those that there had to be."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.chaos.history import Entry

Telling = tuple[str, str]
"""Where something was to be told, and the job that it was to be told of."""


@dataclass
class Told:
    """What came: how often each telling was tried and taken, and under which ids with which bodies."""

    attempts: int = 0
    taken: Counter[Telling] = field(default_factory=Counter)
    said: defaultdict[Telling, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    wrong: list[tuple[str, str]] = field(default_factory=list)
    """Each a job, and what is wrong with what was told of it."""

    @property
    def doubled(self) -> int:
        """How many were taken more than once."""
        return sum(times > 1 for times in self.taken.values())


def told(hooks: Iterable[Entry], wanted: Mapping[Telling, str]) -> Told:
    """I12: what was `wanted` (and how each job ended) was taken, under one id, signed; and nothing else came."""
    found = Told()
    for entry in hooks:
        found.attempts += 1
        _take(found, entry, wanted)
    found.wrong += _never_taken(found, wanted)
    found.wrong += _not_one(found)
    return found


def _take(found: Told, entry: Entry, wanted: Mapping[Telling, str]) -> None:
    path, id, body, status = (entry.said[name] for name in ("path", "id", "body", "status"))
    if entry.said["bad"]:
        found.wrong.append((id, f"its signature does not verify: {entry.said['bad']}"))
        return
    said = json.loads(body)
    job = said["data"]["id"]
    if (outcome := wanted.get((path, job))) is None:
        found.wrong.append((job, f"it was told at {path}, which nobody had asked for"))
        return
    if (said["type"], said["data"]["status"]) != (f"job.{outcome}", outcome):
        found.wrong.append((job, f"{said['type']} ({said['data']['status']}) was told at {path}, and it is {outcome}"))
    found.said[path, job].add((id, body))
    if status is not None and 200 <= status < 300:
        found.taken[path, job] += 1


def _never_taken(found: Told, wanted: Mapping[Telling, str]) -> Iterator[tuple[str, str]]:
    for (path, job), outcome in wanted.items():
        if not found.taken[path, job]:
            yield (
                job,
                f"that it is {outcome} was never taken at {path}, of {len(found.said[path, job])} that were tried",
            )


def _not_one(found: Told) -> Iterator[tuple[str, str]]:
    by_id: defaultdict[str, set[Telling]] = defaultdict(set)
    for (path, job), each in found.said.items():
        if len(each) > 1:
            ids = sorted({id for id, _ in each})
            yield job, f"it was told at {path} in {len(each)} ways, under {', '.join(ids)}"
        for id, _ in each:
            by_id[id].add((path, job))
    for id, tellings in by_id.items():
        if len(tellings) > 1:
            yield id, f"it is the id of {sorted(tellings)}"
