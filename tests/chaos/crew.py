"""The crew: the processes of an installation, each replaced when it dies, as Serve does it."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pydantic_core

from actors import Retry
from actors.clock import Clock
from actors.engines import EngineError
from actors.runtime.replica import Replica
from actors.runtime.settings import Settings
from actors.webhooks import Webhooks
from tests.chaos.history import Pen
from tests.chaos.stories import Narrator, story
from tests.chaos.wire import move_to
from tests.pipelines import deliver, fetch
from tests.serving import listening

PIPELINES = ("tests.pipelines:errands",)
ACK_WAIT_S = 3.0
HANG_AFTER_S = 3.0
DRAIN_S = 2.0
TOKEN_S = 0.01
CONCURRENCY = 16
CHECK_S = 0.5
MEMORY_LEFT = 128 << 20
PAUSES = (0.0, *(0.25 for _ in range(999)))
"""After how many seconds webhooks are tried again: a run lasts for no days, and nothing is given up in it."""

RECEIVERS = "127.0.0.0/8"
"""Where the receivers of webhooks are."""

BUDGET = Retry(attempts=3, crashes=1_000, first=0.05)
"""The faults of a run are no fault of its jobs: whatever is killed, none may die of it."""


@dataclass(frozen=True)
class Post:
    """What one process of the crew does: a worker of a stage (`fetch`, `deliver`), the `front`, `clock` or `webhooks`.

    It is in this network namespace, if one is named.
    """

    name: str
    role: str
    urls: tuple[str, ...]
    sys_urls: tuple[str, ...]
    replicas: int
    folder: Path
    port: int = 0
    namespace: str = ""

    @property
    def settings(self) -> Settings:
        return Settings(
            nats_url=",".join(self.urls),
            nats_sys_url=",".join(self.sys_urls),
            nats_replicas=self.replicas,
            pipelines=PIPELINES,
            max_bytes=8 << 30,
            data=self.folder / "data",
            ack_wait=ACK_WAIT_S,
            hang_after=HANG_AFTER_S,
            egress_allow=RECEIVERS,
        )


def _man(post: Post) -> None:
    if post.namespace:
        move_to(post.namespace)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_work(post))


async def _work(post: Post) -> None:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    match post.role:
        case "front":
            async with listening(post.settings, port=post.port):
                await stopped.wait()
        case "clock":
            await _run(Clock(post.settings, every=1.0), stopped)
        case "webhooks":
            await _run(Webhooks(post.settings, schedule=PAUSES), stopped)
        case stage:
            await _run_stage(post, stage, stopped)


async def _run(actor: Clock | Webhooks, stopped: asyncio.Event) -> None:
    running = asyncio.create_task(actor.run())
    await asyncio.wait({running, asyncio.create_task(stopped.wait())}, return_when=asyncio.FIRST_COMPLETED)
    await actor.stop(1.0)
    await running


async def _run_stage(post: Post, stage: str, stopped: asyncio.Event) -> None:
    pen = Pen(post.folder)
    engine = Narrator(says=story, token_s=TOKEN_S, pen=pen)
    for each in (fetch, deliver):  # they are frozen, and this process is ours alone
        object.__setattr__(each, "concurrency", CONCURRENCY)
        object.__setattr__(each, "retry", BUDGET)
    object.__setattr__(fetch, "uses", engine)

    def hang() -> None:
        engine.gate = asyncio.Event()
        pen.note("engine.hung", worker=replica.name)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, hang)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, _starve)
    replica = Replica(post.settings, stage)
    pen.note("worker", name=replica.name, post=post.name, pid=os.getpid())
    running, ending = asyncio.create_task(replica.run()), asyncio.create_task(stopped.wait())
    while not running.done():
        await asyncio.wait({running, ending}, timeout=CHECK_S, return_when=asyncio.FIRST_COMPLETED)
        if stopped.is_set():
            await replica.stop(DRAIN_S)
            await running
            return
        try:
            await replica.check()
        except EngineError:
            pen.note("worker.unwell", name=replica.name)
            os.kill(os.getpid(), signal.SIGKILL)
    running.result()


def _starve() -> None:
    """Write out more than there is memory for. The allocator has no answer to that but the end of the process."""
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_LEFT,) * 2)
    pydantic_core.to_json(["x" * (1 << 20)] * (MEMORY_LEFT >> 20))


class Member:
    """One place of the crew, and the process that has it now."""

    def __init__(self, post: Post, start: Callable[[Post], BaseProcess]) -> None:
        self.post = post
        self._start = start
        self.process = start(post)

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def send(self, what: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, what)

    @property
    def is_stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        return bool(psutil.Process(self.pid).status() == psutil.STATUS_STOPPED)

    async def keep(self, pen: Pen) -> None:
        """Start it again whenever it ends."""
        while True:
            while self.process.is_alive():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            pen.note("member.ended", post=self.post.name, pid=self.pid, code=self.process.exitcode)
            self.process = self._start(self.post)


class Crew:
    """All of them; an async context manager that starts and ends them."""

    def __init__(self, posts: Sequence[Post], pen: Pen) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, "pytest"])
        self._posts = posts
        self._pen = pen
        self.members: dict[str, Member] = {}

    async def __aenter__(self) -> Crew:
        self.members = {post.name: Member(post, self._begin) for post in self._posts}
        self._keeping = [asyncio.create_task(member.keep(self._pen)) for member in self.members.values()]
        return self

    async def __aexit__(self, *_: object) -> None:
        for keeping in self._keeping:
            keeping.cancel()
        await asyncio.wait(self._keeping)
        for member in self.members.values():
            member.process.kill()
            member.process.join()

    def of(self, *roles: str) -> list[Member]:
        """Those with one of these roles."""
        return [member for member in self.members.values() if member.post.role in roles]

    def _begin(self, post: Post) -> BaseProcess:
        process = self._context.Process(target=_man, args=(post,), daemon=True)
        process.start()
        return process
