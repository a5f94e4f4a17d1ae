"""HTTP/1.1 at a few microseconds a request, so that the one who measures is not what is measured."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools

Take = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect."""

    host: str
    port: int

    def post(self, path: str, body: object) -> bytes:
        """A POST of JSON as it goes over the wire."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data

    def get(self, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n\r\n".encode()


class Connection(asyncio.Protocol):
    """A connection that is kept alive and has one request under way at a time.

    Raises ConnectionError when the other side closes it, or speaks something else.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._done: asyncio.Future[int] | None = None
        self._take: Take
        self._parser = httptools.HttpResponseParser(self)

    @classmethod
    async def open(cls, address: Address) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(cls, address.host, address.port)
        return connection

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; the status and the body of its answer."""
        body = bytearray()
        status = await self.stream(request, body.extend)
        return status, bytes(body)

    async def stream(self, request: bytes, take: Take) -> int:
        """Send a request and give the body of its answer to `take`, piece by piece as it arrives; the status."""
        self._done = asyncio.get_running_loop().create_future()
        self._take = take
        self._transport.write(request)
        return await self._done

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(str(error))
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(str(error or "the other side closed it"))

    def on_body(self, body: bytes) -> None:
        self._take(body)

    def on_message_complete(self) -> None:
        if self._done and not self._done.done():
            self._done.set_result(self._parser.get_status_code())

    def _fail(self, why: str) -> None:
        if self._done and not self._done.done():
            self._done.set_exception(ConnectionError(why))
