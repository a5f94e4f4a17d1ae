"""The worker: the loop that runs one stage."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress

from actors.contracts.events import NotAnEvent
from actors.contracts.subjects import LANES, Lane
from actors.engines.protocol import Engine, EngineError
from actors.journal.connection import Link
from actors.journal.pull import Delivery, Puller, equal
from actors.runtime.bench import Bench
from actors.runtime.company import Company
from actors.runtime.effort import Effort
from actors.runtime.step import Step

log = logging.getLogger(__name__)

UNREADABLE_PAUSE_S = 30.0
TROUBLE_PAUSE_S = 1.0
"""How long a job waits that came to a worker whose engine is dead or hangs, so that another is there, in seconds."""


class Worker:
    """Pulls what fits, runs it, extends the leases of what moves, and drains when asked.

    A plain asyncio class: it knows neither Ray nor Serve. Raises EngineError from `check` when its engine hangs. While
    it `holds_back` it takes nothing new; whoever ends that calls `wake`.
    """

    def __init__(
        self,
        bench: Bench,
        pulls: Link,
        *,
        ack_wait: float,
        hang_after: float,
        lanes: Sequence[Lane] = LANES,
        weight: Callable[[int], float] = equal,
        holds_back: Callable[[], bool] = lambda: False,
    ) -> None:
        self._bench = bench
        self._ack_wait = ack_wait
        self._hang_after = hang_after
        self._holds_back = holds_back
        self._puller = Puller(pulls, bench.stage.name, self._room, lanes, weight)
        self._company = Company(bench.stage.concurrency)
        self._steps: dict[str, Step] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._draining = False
        self._engine_died = ""
        self._steps_made = 0
        self._moved_at = 0.0

    @property
    def jobs(self) -> int:
        """How many jobs it runs now."""
        return len(self._steps)

    @property
    def free(self) -> int:
        """How many more would fit."""
        return self._room()

    @property
    def effort(self) -> Effort | None:
        """What its jobs took lately; None until one has ended, and where there is no engine."""
        effort = self._bench.experience.effort
        return effort if effort.jobs else None

    @property
    def tokens_left(self) -> int | None:
        """About how many tokens its jobs still take; None while it cannot say."""
        return round(sum(step.tokens_left(e) for step in self._steps.values())) if (e := self.effort) else None

    @property
    def draining(self) -> bool:
        return self._draining

    def holds(self, claim: str) -> bool:
        """Whether it runs this claim."""
        return claim in self._steps

    def wake(self) -> None:
        """Take jobs, if there is room: it no longer holds back."""
        self._freed.set()

    def look(self, claim: str) -> None:
        """Let the step that runs this claim look into the log again, beside whatever it does."""
        if step := self._steps.get(claim):
            self._later(step.look())

    async def run(self) -> None:
        """Work until drained."""
        await self._puller.open()
        self._moved_at = asyncio.get_running_loop().time()
        lease = asyncio.create_task(self._keep_leases())
        try:
            while not self._draining:
                if not self._room():
                    self._freed.clear()
                    await self._freed.wait()
                    continue
                for delivery in await self._puller.next():
                    self._begin(delivery)
            await self._finish()
        finally:
            lease.cancel()
            for task in self._tasks:
                task.cancel()

    async def drain(self, within: float) -> None:
        """Take nothing new; finish what is running within so many seconds, and hand the rest back."""
        if not self._draining:
            self._draining = True
            await self._puller.close()
        self._freed.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=0 if self.trouble else within)  # what hangs is not waited for
        for step in list(self._steps.values()):
            step.release("the worker is stopping")
        self._company.disband()
        await self._finish()

    @property
    def trouble(self) -> str:
        """What is wrong with its engine, so that it takes nothing new and must be replaced; empty while it works."""
        if (quiet := self._quiet_for()) > self._hang_after:
            return f"the engine hangs: it has work and has made nothing for {quiet:.0f} s; it is replaced"
        return self._engine_died

    def check(self) -> None:
        """Raises EngineError when the engine is dead, or has work and has made nothing for too long."""
        if trouble := self.trouble:
            raise EngineError(trouble)

    async def _finish(self) -> None:
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _room(self) -> int:
        # A job that is given to a dead engine loses one of its crashes: what waits is for others.
        if self._draining or self.trouble or self._holds_back():
            return 0
        return max(0, self._company.most - len(self._steps))

    def _begin(self, delivery: Delivery) -> None:
        if self.trouble:  # since it was asked for
            self._later(self._bench.acks.again(delivery.ack, TROUBLE_PAUSE_S))
            return
        claim = secrets.token_hex(8)
        try:
            step = Step(self._bench, self._company, delivery, claim)
        except (NotAnEvent, TypeError, ValueError) as error:
            self._pass_over(delivery, error)
            return
        self._steps[claim] = step
        self._later(self._run(step))

    async def _run(self, step: Step) -> None:
        try:
            await step.run()
            await self._look_at_engine()
        except Exception:
            log.exception("a step could not be ended", extra={"action": "step_broken", "job": step.job})
        finally:
            del self._steps[step.claim]
            self._freed.set()

    async def _look_at_engine(self) -> None:
        if isinstance(self._bench.resource, Engine):
            try:
                await self._bench.resource.check()
            except EngineError as error:
                self._engine_died = str(error)

    def _pass_over(self, delivery: Delivery, error: Exception) -> None:
        """Nothing can be said about bytes that are no hand-off; they stay in the log, and the lag shows them."""
        fields = {"action": "not_a_handoff", "seq": delivery.record.seq, "reason": str(error)}
        log.error("this is no hand-off", extra=fields)
        self._later(self._bench.acks.again(delivery.ack, UNREADABLE_PAUSE_S))

    def _later(self, work: Coroutine[None, None, None]) -> None:
        """Do it beside what else goes on; before the worker ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_leases(self) -> None:
        """Extend every lease about every third of it, while the work moves."""
        while True:
            await asyncio.sleep(min(self._ack_wait / 3, self._hang_after / 3))
            if self._quiet_for() > self._hang_after:
                continue  # the lease must run out: somebody else can do this
            for step in list(self._steps.values()):
                with suppress(Exception):
                    await self._bench.acks.working(step.ack)

    def _quiet_for(self) -> float:
        """Seconds since the engine last moved, or had nothing to do."""
        now = asyncio.get_running_loop().time()
        if not isinstance(self._bench.resource, Engine):
            return 0.0
        pulse = self._bench.resource.pulse()
        if pulse.steps != self._steps_made or not pulse.running:
            self._steps_made, self._moved_at = pulse.steps, now
        return now - self._moved_at
