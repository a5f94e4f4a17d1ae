"""This machine: what it lets a run have that not every machine does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from tests.chaos.tampering import CannotTamper, try_tampering
from tests.chaos.wire import NoWire, Wire, wire

Need = Literal["strace", "wire"]
"""Something that a fault needs: to tamper with a process, or a network that can be cut."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is, and of what there is not, why."""

    wire: Wire | None
    lacks: dict[Need, str]


@asynccontextmanager
async def this_machine() -> AsyncIterator[Machine]:
    """Try what can be had, and keep it until left."""
    async with AsyncExitStack() as stack:
        laid, lacks = None, dict[Need, str]()
        try:
            laid = await stack.enter_async_context(wire())
        except NoWire as error:
            lacks["wire"] = str(error)
        try:
            await try_tampering()
        except CannotTamper as error:
            lacks["strace"] = str(error)
        yield Machine(laid, lacks)
