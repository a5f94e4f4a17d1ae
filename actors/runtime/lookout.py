"""A lookout: it keeps looking at a stage's load, and tells whoever asks what was decided on it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from random import Random

from pydantic import ValidationError

from actors.contracts.subjects import scaling_subject
from actors.journal.connection import ApiError, Link, Unanswered
from actors.journal.flows import Flows
from actors.journal.read import Reader
from actors.runtime.presence import ASK_S, workers_of
from actors.runtime.scaling import Decision, Load
from actors.runtime.waits import Waits
from actors.runtime.workload import Workload

log = logging.getLogger(__name__)

PAUSE_S = 1.0
STOP_S = 0.5
"""How soon a lookout that is to stop finds out, in seconds."""


class Lookout:
    """Looks about five times a second, in a thread of its own and over a connection of its own.

    Nobody waits for it: `load` is what it saw last, None until then; `decision` is what it tells. It estimates how many
    tokens there are only when it `counts_tokens`.
    """

    def __init__(self, urls: Sequence[str], stage: str, *, counts_tokens: bool = False) -> None:
        self._urls = list(urls)
        self._stage = stage
        self._counts_tokens = counts_tokens
        self._stopped = threading.Event()
        self.load: Load | None = None
        self.decision: Decision | None = None

    def start(self) -> None:
        threading.Thread(target=self._stay, name=f"lookout-{self._stage}", daemon=True).start()

    def stop(self) -> None:
        """It ends by itself soon; nobody waits for it."""
        self._stopped.set()

    def _stay(self) -> None:
        while not self._stopped.is_set():
            try:
                asyncio.run(self._until_stopped())
            except Exception as error:  # whatever it is, the number of replicas stays as it is, and is looked at again
                fields = {"action": "lookout_failed", "stage": self._stage, "reason": str(error)}
                log.exception("cannot look at a stage's lag", extra=fields)
                self._stopped.wait(PAUSE_S)

    async def _until_stopped(self) -> None:
        looking = asyncio.create_task(self._look())
        while not self._stopped.is_set() and not looking.done():
            await asyncio.wait({looking}, timeout=STOP_S)
        looking.cancel()
        await asyncio.wait({looking})
        if not looking.cancelled():
            looking.result()

    async def _look(self) -> None:
        link = await Link.open(self._urls, f"scaling-{self._stage}:signals")
        flows, waits, workload = Flows(link, self._stage), Waits(Reader(link)), Workload(Reader(link), Random())
        try:
            await flows.open()
            await link.answer(scaling_subject(self._stage), self._tell)
            while True:
                try:
                    self.load = await self._see(link, flows, waits, workload)
                except (Unanswered, ApiError):
                    await asyncio.sleep(ASK_S)
        finally:
            await link.close()

    async def _see(self, link: Link, looked: Flows, waits: Waits, workload: Workload) -> Load:
        workers = await workers_of(link, self._stage)
        seen = time.monotonic()
        flows = await looked.look()
        regular = [worker for worker in workers if worker.role != "overflow"]
        relieved = sum(worker.jobs for worker in workers if worker.role == "overflow")
        return Load(
            at=seen,
            waiting=sum(flow.waiting for flow in flows),
            running=max(0, sum(flow.running for flow in flows) - relieved),
            waited=await waits.longest(flows),
            ready=sum(worker.state == "ready" for worker in regular),
            failed=sum(worker.state == "failed" for worker in regular),
            tokens=await workload.look(flows, workers) if self._counts_tokens else None,
        )

    def _tell(self, _: bytes) -> bytes:
        tokens = self.load.tokens if self.load else None
        told = self.decision and self.decision.model_copy(update={"tokens_waiting": tokens.waiting if tokens else None})
        return told.model_dump_json().encode() if told else b"{}"


async def decision_on(link: Link, stage: str) -> Decision | None:
    """What was decided last on a stage's number of replicas; None when nobody says. Raises Unanswered."""
    for answer in await link.gather(scaling_subject(stage), within=ASK_S):
        try:
            return Decision.model_validate_json(answer.data)
        except ValidationError:
            continue
    return None
