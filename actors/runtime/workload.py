"""The workload: about how many tokens of work a stage has before it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from random import Random

from actors.journal.lag import Flow
from actors.journal.read import Reader
from actors.runtime.effort import Effort
from actors.runtime.presence import WorkerStatus
from actors.runtime.sample import Sample
from actors.runtime.scaling import Tokens


class Workload:
    """Estimates tokens from what workers say of the jobs that they had lately, and from the sizes of some that wait.

    The log does not know what a message becomes as a prompt, and nobody knows how long an answer will be: a job is
    taken to need what jobs with a hand-off of its size needed lately. So it is wrong by as much as the answers to come
    are longer or shorter than those; about sizes that no job had yet, by as much as the text is unlike English; and
    where sizes differ, by the error of a sample of 64. While no worker has ended a job, nothing is said.
    """

    def __init__(self, reader: Reader, rng: Random) -> None:
        self._sample = Sample(reader, rng)
        self._effort = Effort()

    async def look(self, flows: Sequence[Flow], workers: Sequence[WorkerStatus]) -> Tokens | None:
        """How many tokens wait, and how many are still before the workers' jobs; None when nobody can say.

        What was learnt counts on when all workers have gone. The jobs of an overflow are left out. Raises Unanswered.
        """
        learnt = functools.reduce(Effort.joined, (worker.effort for worker in workers if worker.effort), Effort())
        self._effort = learnt if learnt.jobs else self._effort
        if not self._effort.jobs:
            return None
        waiting = sum(flow.waiting for flow in flows) * self._each(await self._sample.sizes(flows))
        return Tokens(round(waiting), round(sum(map(self._left, _regular(workers)))))

    def _each(self, sizes: Sequence[int]) -> float:
        """What one of the jobs takes that these sizes stand for."""
        return sum(map(self._effort.of, sizes)) / len(sizes) if sizes else self._effort.tokens

    def _left(self, worker: WorkerStatus) -> float:
        """What a worker has before it. One that has ended no job yet, or is of an older version, cannot say."""
        return worker.jobs * self._effort.tokens if worker.tokens_left is None else worker.tokens_left


def _regular(workers: Iterable[WorkerStatus]) -> list[WorkerStatus]:
    return [worker for worker in workers if worker.role != "overflow"]
