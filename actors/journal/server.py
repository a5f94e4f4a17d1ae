"""The embedded server: a nats-server of our own, kept alive as a child of this process."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from actors.journal.disk import MIN_FREE, Freeze, free, stopped_storing
from actors.journal.folder import DataFolder, DataInUse, FolderError
from actors.journal.server_config import Identity, ServerError, is_free, render
from actors.journal.server_process import ServerProcess, check, find_binary

__all__ = ["DataInUse", "EmbeddedServer", "FolderError", "ServerError"]

log = logging.getLogger(__name__)

IDENTITY = "server.json"
CONFIG = "server.conf"
LOG = "nats-server.log"
CRASH_LOG = "nats-server.crash.log"

DIED = "server_died"
RESTARTED = "server_restarted"
RESTART_FAILED = "server_restart_failed"
DISK_FULL = "server_disk_full"
DISK_HAS_ROOM = "server_disk_has_room"

LOOK_S = 1.0
"""How often it is looked whether the server still stores."""

READY_S = 120.0
STEADY_S = 10.0
"""A server that lived this long was healthy: when it dies, the delays begin from the shortest again."""

FIRST_DELAY_S = 0.01
LONGEST_DELAY_S = 5.0
PORT_TRIES = 5


def kept_identity(folder: Path) -> Identity | None:
    """Who the server of this folder is, or was; None when there was none, or when that file is damaged."""
    try:
        return Identity.model_validate_json((folder / IDENTITY).read_bytes())
    except (OSError, ValidationError):
        return None


def restart_delay(deaths: int) -> float:
    """Seconds before the start that follows the `deaths`-th death in a row (from 1)."""
    return float(min(FIRST_DELAY_S * 2 ** min(deaths - 1, 30), LONGEST_DELAY_S))


class EmbeddedServer:
    """nats-server as a supervised child, on loopback; an async context manager that is entered when it serves.

    What it stores is on disk before it is acknowledged (`sync="always"`, or a JetStream `sync_interval`). When it dies
    it is started again, on the same ports, for as long as this is open; each death and return is a log line. Ports,
    passwords and data are kept in `folder` for the next program. It dies with this process, also when that is killed.
    After a full disk it stores nothing until it is started again, which is done once there is room: that is logged.
    Entering raises DataInUse, FolderError or ServerError, whose message says what to do.
    """

    def __init__(self, folder: Path, *, sync: str = "always", binary: Path | None = None, grace: float = 10.0) -> None:
        self._folder = DataFolder(folder)
        self._sync = sync
        self._binary = binary
        self._grace = grace
        self._stack = AsyncExitStack()
        self._program: Path
        self._identity: Identity
        self._process: ServerProcess
        self._serving = False
        self._stopped_for_room = False

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._folder)
            self._program = self._binary or find_binary()
            self._process = await self._start()
            stack.push_async_callback(self._stop)
            self._serving = True
            for task in (self._supervise(), self._watch_disk()):
                stack.push_async_callback(_cancel, asyncio.create_task(task, name="nats-server"))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it: SIGTERM, and SIGKILL after `grace` seconds. Nothing of it runs any more when this returns."""
        await self._stack.aclose()

    @property
    def url(self) -> str:
        """Where jobs live; the URL carries the password."""
        return self._identity.url

    @property
    def sys_url(self) -> str:
        """The system account, where the server tells of connections that come and go; it carries the password."""
        return self._identity.sys_url

    @property
    def monitor_port(self) -> int:
        """Where its monitoring answers over HTTP, on loopback."""
        return self._identity.monitor_port

    @property
    def jobs_bytes(self) -> int:
        """How much the stream of jobs may hold here. It never shrinks from one start to the next."""
        return self._identity.jobs_bytes

    @property
    def audit_bytes(self) -> int:
        """How much the audit log may hold here, beside the jobs. It never shrinks either."""
        return self._identity.audit_bytes

    @property
    def pid(self) -> int:
        """The server's process now; another one after a restart."""
        return self._process.pid

    async def _start(self) -> ServerProcess:
        """Serve for the first time. A port that somebody took at the last moment is exchanged for another."""
        for _ in range(PORT_TRIES - 1):
            try:
                return await self._try_start()
            except ServerError:
                if self._identity == self._identity.on_free_ports(is_free):
                    raise
        return await self._try_start()

    async def _try_start(self) -> ServerProcess:
        await asyncio.to_thread(self._configure)
        async with AsyncExitStack() as undo:
            process = self._spawn()
            undo.push_async_callback(process.stop, self._grace)
            await process.ready(self._identity, within=READY_S)
            undo.pop_all()
        return process

    def _configure(self) -> None:
        """Decide who the server is, and write down what it is told. Raises FolderError or ServerError."""
        left = free(self._folder.path)
        if left < MIN_FREE:
            raise FolderError(
                f"the disk of {self._folder.path} is full ({left >> 20} MiB free): make room, or choose another folder"
            )
        kept = kept_identity(self._folder.path) or Identity.new(is_free)
        self._identity = kept.on_free_ports(is_free).with_room(left)
        self._folder.write(IDENTITY, self._identity.model_dump_json(indent=2).encode())
        told = render(self._identity, folder=self._folder.path, log=self._path(LOG), sync=self._sync)
        check(self._program, self._folder.write(CONFIG, os.fsencode(told)))

    def _spawn(self) -> ServerProcess:
        process = ServerProcess(
            self._program,
            self._path(CONFIG),
            log=self._path(LOG),
            crash_log=self._path(CRASH_LOG),
            keep=(self._folder.lock_fd,),
        )
        self._folder.note(process.pid)
        return process

    async def _supervise(self) -> None:
        """Start the server again each time it dies; it comes back on its ports, where its clients look for it."""
        clock = asyncio.get_running_loop().time
        deaths, began = 0, clock()
        while True:
            code = await self._process.wait()
            self._serving = False
            deaths = 1 if clock() - began > STEADY_S else deaths + 1
            if not self._stopped_for_room:
                reason = self._process.last_words()
                log.error("nats-server died", extra={"action": DIED, "code": code, "reason": reason, "deaths": deaths})
            self._stopped_for_room = False
            while not await self._restart(after=restart_delay(deaths)):
                deaths += 1
            began = clock()

    async def _restart(self, *, after: float) -> bool:
        await asyncio.sleep(after)
        try:
            self._process = self._spawn()
            # However long that takes: one that recovers a large store is not helped by a kill.
            await self._process.ready(self._identity)
        except ServerError as error:
            log.error("nats-server does not start", extra={"action": RESTART_FAILED, "reason": str(error)})
            return False
        self._serving = True
        log.warning("nats-server is back", extra={"action": RESTARTED, "pid": self.pid})
        return True

    async def _watch_disk(self) -> None:
        """Stop a server that a full disk has stopped storing, once there is room, so that it is started again.

        Not before, and not again and again: what it could not write then has to fit, whatever else the disk says.
        """
        freeze, frozen = None, self._process
        while True:
            await asyncio.sleep(LOOK_S)
            left = free(self._folder.path)
            if freeze is None:
                frozen, reason = self._process, await stopped_storing(self._identity)
                # One that is on its way up says so too; only where the disk is full will it never be up.
                if reason and (self._serving or left < MIN_FREE):
                    freeze = Freeze(left)
                    told = {"action": DISK_FULL, "reason": reason, "free": left, "needed": freeze.needed}
                    log.error("nats-server stores nothing any more: make room on its disk", extra=told)
            elif freeze.is_over(left):
                freeze = None
                log.warning("the disk has room: nats-server is started again", extra={"action": DISK_HAS_ROOM})
                if self._process is frozen:
                    self._stopped_for_room = self._serving
                    await frozen.stop(self._grace)

    async def _stop(self) -> None:
        await self._process.stop(self._grace)

    def _path(self, name: str) -> Path:
        return self._folder.path / name


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
