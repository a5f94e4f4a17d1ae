"""The disk under a server: whether it still stores, and how much room there is."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from actors.journal.server_config import Identity
from actors.journal.server_process import ANSWER_S, ask

STORES_NOTHING = ("write error", "no space left", "JetStream not enabled")
"""How the server's health says that it will store nothing until it is started again. On a full disk it freezes the
stream, or switches JetStream off altogether (both measured, 2.15.1)."""


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
