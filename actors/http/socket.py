"""A WebSocket on which events are sent, for clients that have no server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from starlette.websockets import WebSocket

ENDED, RESUME = 1000, 1012
"""Why it is closed: all has been said, or the client is to come again after the last `id`. RFC 6455, 7.4, and IANA."""


async def send_events(
    socket: WebSocket, messages: AbstractAsyncContextManager[AsyncIterator[str]], *, life: float
) -> None:
    """Send messages as they come, until there are no more, the client has gone, or `life` seconds are over."""
    async with messages as each:
        await socket.accept()
        sending, gone = asyncio.create_task(_send(socket, each)), asyncio.create_task(_until_gone(socket))
        try:
            await asyncio.wait({sending, gone}, timeout=life, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return
            if sending.done():
                sending.result()
            await socket.close(ENDED if sending.done() else RESUME)
        finally:
            sending.cancel()
            gone.cancel()
            await asyncio.wait({sending, gone})


async def _send(socket: WebSocket, messages: AsyncIterator[str]) -> None:
    async for message in messages:
        await socket.send_text(message)


async def _until_gone(socket: WebSocket) -> None:
    """What a client says here is passed over."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
