"""A wire: the only way out of a network namespace, which can be cut as a cable is."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CLONE_NEWNET = 0x40000000
LOOPBACK = "127.0.0.1"

Cut = Literal["sent", "received", "all"]
"""What is lost: what goes out of the namespace, what comes in, or both."""


class NoWire(Exception):
    """There can be no wire here; the message says why."""


@dataclass(frozen=True, slots=True)
class _Queue:
    """Where the packets of one direction wait to be sent: `tc`'s words for its device."""

    device: str
    within: tuple[str, ...] = ()

    async def close(self) -> None:
        """From now on it has no room for any packet, and drops them all."""
        await self._tc("add", "root", "pfifo", "limit", "0")

    async def open(self) -> int:
        """Have room again; how many packets were dropped."""
        told = json.loads(await _run("tc", *self.within, "-s", "-j", "qdisc", "show", "dev", self.device))
        await self._tc("del", "root")
        return sum(each["drops"] for each in told)

    async def _tc(self, verb: str, *words: str) -> None:
        await _run("tc", *self.within, "qdisc", verb, "dev", self.device, *words)


class Wire:
    """A namespace whose 127.0.0.1 is the machine's, over a pair of virtual devices: addresses are the same inside."""

    def __init__(self) -> None:
        number = os.getpid()  # two runs are not in each other's way
        self.namespace = f"headrace-{number}"
        self._near, self._far = f"hrn{number}", f"hrf{number}"
        network = f"10.231.{number // 64 % 256}"
        self._near_address, self._far_address = (f"{network}.{number % 64 * 4 + end}" for end in (1, 2))

    async def lay(self) -> None:
        """Make all of it. Raises NoWire."""
        inside = ("-n", self.namespace)
        await _run("ip", "netns", "add", self.namespace)
        await _run("ip", "link", "add", self._near, "type", "veth", "peer", self._far, "netns", self.namespace)
        await _run("ip", "addr", "add", f"{self._near_address}/30", "dev", self._near)
        await _run("ip", *inside, "addr", "add", f"{self._far_address}/30", "dev", self._far)
        await _run("ip", "link", "set", self._near, "up")
        await _run("ip", *inside, "link", "set", self._far, "up")
        # The loopback device inside stays down, so that the machine's answers in its place.
        way = (f"{LOOPBACK}/32", "dev", self._far, "src", self._far_address)
        await _run("ip", *inside, "route", "add", *way)
        allow = "echo 1 > /proc/sys/net/ipv4/conf/{}/route_localnet"
        await _run("sh", "-c", allow.format(self._near))
        await _run("ip", "netns", "exec", self.namespace, "sh", "-c", allow.format(self._far))

    async def take_up(self) -> None:
        """Leave nothing of it, whatever there is."""
        if (Path("/run/netns") / self.namespace).exists():
            await _run("ip", "netns", "del", self.namespace)

    @asynccontextmanager
    async def cut(self, what: Cut) -> AsyncIterator[list[int]]:
        """Lose packets without a word to anybody until left; then the list says how many, for each direction cut."""
        sent, received = _Queue(self._far, ("-n", self.namespace)), _Queue(self._near)
        lost: list[int] = []

        async def open_again(queue: _Queue) -> None:
            lost.append(await queue.open())

        async with AsyncExitStack() as stack:
            for queue in {"sent": [sent], "received": [received], "all": [sent, received]}[what]:
                await queue.close()
                stack.push_async_callback(open_again, queue)
            yield lost


@asynccontextmanager
async def wire() -> AsyncIterator[Wire]:
    """A wire, until left. Raises NoWire."""
    made = Wire()
    try:
        await made.lay()
        async with made.cut("all"):
            pass  # a machine that cannot do it says so now
        yield made
    finally:
        await made.take_up()


def move_to(namespace: str) -> None:
    """Have this thread, and those that it will start, in that network."""
    handle = os.open(Path("/run/netns") / namespace, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(handle, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")
    finally:
        os.close(handle)


async def _run(*command: str) -> str:
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    except OSError as error:
        raise NoWire(f"{command[0]} cannot be run ({error.strerror}): install iproute2") from None
    said, wrong = await process.communicate()
    if process.returncode:
        raise NoWire(f"`{' '.join(command)}` is not possible here: {wrong.decode().strip()}")
    return said.decode()
