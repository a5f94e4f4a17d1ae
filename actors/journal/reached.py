"""Reached: the server of a log, for a command that is about the log itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from actors.contracts.errors import HeadraceError
from actors.journal.connection import Link
from actors.journal.server import DataInUse, EmbeddedServer, kept_identity

CONNECT_S = 5.0


@asynccontextmanager
async def reached(data: Path, nats_url: str, name: str, *, make: bool = False) -> AsyncIterator[Link]:
    """The server that is named, or the one in the data folder, which is started if it does not run.

    With `make`, a folder without a log gets one. Raises HeadraceError, whose message says what to do.
    """
    async with AsyncExitStack() as stack:
        url = nats_url
        if not url:
            folder = data / "nats"
            identity = kept_identity(folder)
            if identity is None and not make:
                raise HeadraceError(f"there is no log in {data}; name its folder with --data, or a server: --nats-url")
            try:
                url = (await stack.enter_async_context(EmbeddedServer(folder.absolute()))).url
            except DataInUse:
                if identity is None:
                    raise
                url = identity.url
        try:
            async with asyncio.timeout(CONNECT_S):
                link = await Link.open([part.strip() for part in url.split(",")], name)
        except TimeoutError:
            raise HeadraceError(f"no nats-server answers at {url.rpartition('@')[2]}; start it") from None
        stack.push_async_callback(link.close)
        yield link
