"""A server whose answers can get lost: a relay of bytes between a client and one server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit


class Relay:
    """Passes bytes on. While `deaf`, what the server says is thrown away; `cut` ends every connection.

    Between `part` and `heal` nothing passes either way and no connection ends, as where a network is cut: what was sent
    meanwhile arrives late. Each of `portions` is how many bytes of the server's one connection brings before it is cut,
    by the order in which they are opened; those that come after the last are not.
    """

    def __init__(self, url: str, portions: Iterable[int] = ()) -> None:
        self._real = urlsplit(url)
        self._portions: Iterator[int] = iter(portions)
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""
        self.deaf = False
        self.lost = asyncio.Event()
        """Set once something that the server said was thrown away."""
        self.held = 0
        """How often something had to wait while the network was cut."""
        self.spent = 0
        """How many connections were cut because they had brought their portion."""
        self._whole = asyncio.Event()
        self._whole.set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        who, at, _ = self._real.netloc.rpartition("@")
        self.url = urlunsplit(self._real._replace(netloc=f"{who}{at}127.0.0.1:{port}"))

    async def close(self) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """End every connection; new ones are taken."""
        for writer in list(self._writers):
            writer.close()

    def part(self) -> None:
        """Let nothing pass."""
        self._whole.clear()

    def heal(self) -> None:
        """Let everything pass again."""
        self._whole.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(self._real.hostname, self._real.port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, server_writer}
        portion = next(self._portions, None)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, server_writer, from_server=False))
                both.create_task(self._pass_on(server_reader, writer, from_server=True, portion=portion))
        finally:
            self._writers -= {writer, server_writer}

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        from_server: bool,
        portion: int | None = None,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if not self._whole.is_set():
                    self.held += 1
                    await self._whole.wait()
                if from_server and self.deaf:
                    self.lost.set()
                    continue
                writer.write(data[:portion])
                await writer.drain()
                if portion is not None:
                    portion -= len(data)
                    if portion <= 0:
                        self.spent += 1
                        break
        writer.close()


@asynccontextmanager
async def relay(url: str, portions: Iterable[int] = ()) -> AsyncIterator[Relay]:
    """A relay to the server at `url`, to be connected to in its place."""
    opened = Relay(url, portions)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()
