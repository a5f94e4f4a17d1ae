"""A process that is tampered with: some of its system calls take longer than they do, or fail (by strace)."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE

MARKS = (b"(INJECTED)", b"(DELAYED)")
"""How strace marks a call in which it had its part."""


class CannotTamper(Exception):
    """Nobody may do this here; the message says why."""


class Tampering:
    """strace on a process and its threads, until left; `hits` is how many system calls it has changed.

    `how` is what strace's `inject` takes: `delay_enter=<microseconds>`, `error=<errno>`. Raises CannotTamper.
    """

    program = "strace"

    def __init__(self, pid: int, call: str, how: str) -> None:
        chosen = ("-e", f"trace={call}", "-e", f"inject={call}:{how}", "-e", "signal=none")
        self._command = (self.program, "-f", "-p", str(pid), *chosen)
        self.hits = 0
        self.hit = asyncio.Event()
        """Set once one was changed."""

    async def __aenter__(self) -> Tampering:
        try:
            self._strace = await asyncio.create_subprocess_exec(*self._command, stdin=DEVNULL, stderr=PIPE)
        except OSError as error:
            raise CannotTamper(f"strace cannot be run ({error.strerror}): install it") from None
        if b"attached" not in (first := await self._line()):
            await self._strace.wait()
            raise CannotTamper(f"strace may not look at a process here: {first.decode().strip()}")
        self._reading = asyncio.create_task(self._count())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._strace.returncode is None:
            self._strace.terminate()  # it lets the process go first, whatever its threads are doing
        await self._reading
        await self._strace.wait()

    async def _count(self) -> None:
        while line := await self._line():
            if line.rstrip().endswith(MARKS):
                self.hits += 1
                self.hit.set()

    async def _line(self) -> bytes:
        assert self._strace.stderr is not None
        return await self._strace.stderr.readline()


async def try_tampering() -> None:
    """Raises CannotTamper where this machine does not let us."""
    victim = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    try:
        async with Tampering(victim.pid, "fsync", "delay_enter=1"):
            pass
    finally:
        victim.kill()
        await victim.wait()
