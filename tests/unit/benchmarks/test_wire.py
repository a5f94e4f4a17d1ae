from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from benchmarks.hammer import hammer
from benchmarks.wire import Address, Connection

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def serving(answers: Sequence[bytes]) -> AsyncIterator[tuple[Address, list[bytes]]]:
    """A server that answers each request with the next of these, over and over, and keeps what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(65_536):
            said = answers[len(asked) % len(answers)]
            asked.append(head)
            if not said:
                break
            writer.write(said)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1]), asked


async def test_a_connection_is_used_for_one_request_after_the_other() -> None:
    async with serving([answer(b"one", "202 Accepted"), answer(b"two")]) as (address, asked):
        connection = await Connection.open(address)
        assert await connection.ask(address.post("/jobs", {"a": 1})) == (202, b"one")
        assert await connection.ask(address.get("/jobs/x")) == (200, b"two")
        assert asked[0].startswith(b"POST /jobs HTTP/1.1\r\n")
        assert asked[0].endswith(b'Content-Length: 8\r\n\r\n{"a": 1}')
        connection.close()


async def test_a_stream_is_given_on_without_its_chunks() -> None:
    async with serving([CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"]) as (address, _):
        connection = await Connection.open(address)
        heard = bytearray()
        assert await connection.stream(address.get("/"), heard.extend) == 200
        assert heard == b"hello world"
        connection.close()


@pytest.mark.parametrize("said", [b"", b"nonsense\r\n\r\n"], ids=["closed", "another protocol"])
async def test_whoever_does_not_answer_is_an_error(said: bytes) -> None:
    async with serving([said]) as (address, _):
        connection = await Connection.open(address)
        with pytest.raises(ConnectionError):
            await connection.ask(address.get("/"))


async def test_the_hammer_counts_every_answer() -> None:
    async with serving([answer(b"yes")]) as (address, asked):
        connections = [await Connection.open(address) for _ in range(3)]
        hammered = await hammer(connections, address.get("/"), seconds=0.05)
        assert len(hammered.taken) == hammered.statuses[200] == len(asked) >= 3
        for connection in connections:
            connection.close()
