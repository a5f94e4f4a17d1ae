"""The disk under a server: whether it still stores, and how much room there is."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from actors.journal.server_config import Identity
from actors.journal.server_process import ANSWER_S, ask

MIN_FREE = 32 << 20
"""A disk with less than this left, in bytes, is full."""

STORES_NOTHING = ("write error", "no space left", "JetStream not enabled")
"""How the server's health says that it will store nothing until it is started again. On a full disk it freezes the
stream, or switches JetStream off altogether (both measured, 2.15.1)."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """A server stopped storing when so many bytes of its disk were left."""

    left: int

    @property
    def needed(self) -> int:
        """How many bytes have to be free before it is of use to start it again: more than when it could not write."""
        return self.left + MIN_FREE

    def is_over(self, left: int) -> bool:
        """Whether somebody has made room."""
        return left >= self.needed


def free(folder: Path) -> int:
    """How many bytes are left on the disk of a folder; 0 where there is no such folder any more."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


async def stopped_storing(identity: Identity) -> str:
    """Why the server stores nothing any more, in its words; empty while it does, or says nothing at all."""
    try:
        async with asyncio.timeout(ANSWER_S):
            error = str((await ask(identity, "/healthz")).get("error", ""))
    except (OSError, ValueError, TimeoutError):
        return ""
    return error if any(words in error for words in STORES_NOTHING) else ""
