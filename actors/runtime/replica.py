"""One replica of a stage: what it needs, opened with patience, and the worker on top."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from actors.contracts.errors import HeadraceError
from actors.engines.protocol import Engine, EngineError
from actors.journal.connection import ApiError
from actors.journal.journal import Journal
from actors.journal.later import Later
from actors.journal.pull import Acks
from actors.journal.topology import ensure
from actors.pipeline.catalogue import Catalogue
from actors.pipeline.pipeline import Pipeline
from actors.pipeline.replicas import Replicas
from actors.runtime.bench import Bench
from actors.runtime.crash_points import Reached, pass_by
from actors.runtime.pacing import TextLanes
from actors.runtime.presence import Owners, Presence, Role, State, WorkerStatus
from actors.runtime.relief import ReliefTurn
from actors.runtime.resource import as_set
from actors.runtime.scales import Scales
from actors.runtime.settings import Settings
from actors.runtime.spare import SpareTurn
from actors.runtime.strangers import Strangers
from actors.runtime.turn import Turn
from actors.runtime.worker import Worker
from actors.runtime.writer import Pen

log = logging.getLogger(__name__)

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 30.0


class UnknownStage(HeadraceError):
    """No pipeline of this installation has the stage."""


def load_pipelines(paths: Sequence[str]) -> Catalogue:
    """Import pipelines by `MODULE:NAME`. Raises HeadraceError with one sentence when they cannot be used."""
    return Catalogue(map(_load, paths))


def _load(path: str) -> Pipeline:
    module, _, name = path.partition(":")
    if not name:
        raise HeadraceError(f"{path!r} names no pipeline: write MODULE:NAME, for example actors.analysis:analysis")
    try:
        pipeline = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise HeadraceError(f"there is no module {error.name!r} for {path!r}; is its folder on PYTHONPATH?") from error
    except AttributeError as error:
        raise HeadraceError(f"module {module!r} has no {name!r}") from error
    if not isinstance(pipeline, Pipeline):
        raise HeadraceError(f"{path!r} is a {type(pipeline).__name__}, not a Pipeline")
    return pipeline


class Replica:
    """Connects, says how it is, opens what the stage uses, and works until told to stop.

    Nothing that is missing for a while ends it: it goes on trying, says in its presence what is wrong, and jobs wait.
    With `overflow` it is one of those that help the stage without a GPU.
    """

    def __init__(self, settings: Settings, stage: str, *, overflow: bool = False, reached: Reached = pass_by) -> None:
        self._settings = settings
        self._reached = reached
        pipelines = load_pipelines(settings.pipelines)
        self._pipelines = pipelines.having(stage)
        self._strangers = Strangers()
        found = pipelines.stages.get(stage)
        if found is None:
            raise UnknownStage(f"no pipeline has a stage {stage!r}; there are: {', '.join(pipelines)}")
        self._stage = found
        self._overflow = found.overflow if overflow else None
        if self._overflow and (on_cpus := found.on_cpus):
            self._stage = on_cpus
        self.name = f"{stage}-{secrets.token_hex(4)}"
        self._worker: Worker | None = None
        self._turn: Turn | None = None
        self._opened: Engine | None = None
        self._engine: Engine | None = None
        self._state: State = "starting"
        self._detail = "connecting to nats-server"
        self._since = time.time()
        self._stopping = asyncio.Event()

    def status(self) -> WorkerStatus:
        """How it is now."""
        worker = self._worker
        trouble = worker.trouble if worker else ""
        opening = self._opened.opening if self._opened and self._state == "loading" else None
        holds_back = self._turn.holds_back if self._turn else ""
        return WorkerStatus(
            worker=self.name,
            stage=self._stage.name,
            state="draining" if worker and worker.draining else "failed" if trouble else self._state,
            detail=trouble or (str(opening) if opening else self._detail) or holds_back,
            jobs=worker.jobs if worker else 0,
            free=worker.free if worker else 0,
            since=self._since,
            done=opening.done if opening else None,
            role=self._role,
            unknown=self._strangers.waiting(),
            effort=worker.effort if worker else None,
            tokens_left=worker.tokens_left if worker else None,
        )

    @property
    def _role(self) -> Role:
        if self._overflow:
            return "overflow"
        return "spare" if self._turn and self._turn.holds_back else "regular"

    async def run(self) -> None:
        """Work until stopped."""
        async with Journal.open(self._settings.nats_urls, self.name) as journal:
            await Presence(journal.signals, holds=self._holds, status=self.status, look=self._look).open()
            await self._make_queues(journal)
            async with contextlib.AsyncExitStack() as stack:
                resource = await self._open_resource(stack)
                if not self._stopping.is_set():
                    await self._work(journal, resource)

    async def stop(self, within: float) -> None:
        """Drain: take nothing new, finish or hand back what is running, within about so many seconds."""
        self._stopping.set()
        if self._worker:
            await self._worker.drain(within)

    async def check(self) -> None:
        """Raises EngineError when the engine is dead or hangs, so that this replica is replaced."""
        if self._worker:
            self._worker.check()
        if self._engine and self._state == "ready":
            await self._engine.check()

    async def _make_queues(self, journal: Journal) -> None:
        """The stage's queues, once they can be made; tries again with growing pauses until then."""
        for pause in self._pauses():
            try:
                await ensure(
                    journal.signals,
                    [self._stage.name],
                    replicas=self._settings.nats_replicas,
                    max_bytes=self._settings.max_bytes,
                    audit_max_bytes=self._settings.audit_max_bytes,
                    ack_wait=self._settings.ack_wait,
                )
                return
            except ApiError as error:
                await self._fail(error, "queues_not_made", pause)

    async def _work(self, journal: Journal, resource: object) -> None:
        self._engine = resource if isinstance(resource, Engine) else None
        pen = Pen(
            worker=self.name,
            appender=journal.appender,
            reader=journal.reader,
            owners=Owners(journal.signals),
            retry=self._stage.retry,
            ack_wait=self._settings.ack_wait,
            model=self._engine.revision if self._engine else None,
            reached=self._reached,
        )
        bench = Bench(
            self._stage,
            self._pipelines,
            resource,
            pen,
            Acks(journal.pulls),
            Later(journal.pulls),
            TextLanes(),
            Random(),
            self._strangers,
        )
        scales, turn = Scales(), self._turn_in(journal)
        worker = self._worker = Worker(
            bench,
            journal.pulls,
            ack_wait=self._settings.ack_wait,
            hang_after=self._settings.hang_after,
            weight=scales.weight,
            holds_back=lambda: bool(turn and turn.holds_back),
        )
        self._turn = turn
        self._become("ready", "")
        async with scales.following(journal.signals), asyncio.TaskGroup() as group:
            watch = group.create_task(turn.watch(worker.wake)) if turn else None
            await worker.run()
            if watch:
                watch.cancel()

    def _turn_in(self, journal: Journal) -> Turn | None:
        """Whose turn it is, where this replica may have to hold back for others."""
        if self._overflow:
            return ReliefTurn(journal, self._stage.name, self._overflow.after)
        if isinstance(self._stage.replicas, Replicas) and (spares := self._stage.replicas.spare):
            return SpareTurn(journal.signals, self._stage.name, self.name, spares)
        return None

    async def _open_resource(self, stack: contextlib.AsyncExitStack) -> Any:
        """What the stage uses, once it opens; tries again with growing pauses until then."""
        uses = self._stage.uses
        if uses is None:
            return None
        uses = as_set(uses, self._settings)
        if isinstance(uses, Engine):
            uses = self._opened = uses.on(self._stage.gpus if self._settings.gpus else 0.0)
        for pause in self._pauses():
            self._become("loading", f"opening {type(uses).__name__}")
            try:
                return await stack.enter_async_context(uses)
            except (EngineError, OSError, HeadraceError, ValueError, RuntimeError) as error:
                await self._fail(error, "open_failed", pause)
        return None

    def _pauses(self) -> Iterator[float]:
        """How long to wait after each failure, in seconds, until it is stopped."""
        pause = FIRST_RETRY_S
        while not self._stopping.is_set():
            yield pause
            pause = min(pause * 2, LONGEST_RETRY_S)

    async def _fail(self, error: Exception, action: str, pause: float) -> None:
        """Say what is wrong, and wait a while."""
        self._become("failed", f"{error} (tried again in {pause:.0f} s)")
        fields = {"action": action, "stage": self._stage.name, "reason": str(error)}
        log.error("a replica cannot work yet", extra=fields)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._stopping.wait()

    def _holds(self, claim: str) -> bool:
        return self._worker is not None and self._worker.holds(claim)

    def _look(self, claim: str) -> None:
        if self._worker:
            self._worker.look(claim)

    def _become(self, state: State, detail: str) -> None:
        self._state, self._detail, self._since = state, detail, time.time()
        fields = {"action": "worker_state", "worker": self.name, "state": state, "detail": detail}
        log.info("a worker changed state", extra=fields)
