"""An event stream sends what comes, keeps the connection open meanwhile, and ends in every way there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actors.http.stream import HEARTBEAT, EventStream

LONG = 60.0


class Client:
    """The other end: it takes everything, until it goes away or stops reading."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.gone = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.taken = asyncio.Condition()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        self.sent.append(message)
        async with self.taken:
            self.taken.notify_all()

    async def has(self, frame: bytes) -> None:
        async with asyncio.timeout(LONG), self.taken:
            await self.taken.wait_for(lambda: frame in self.frames)

    @property
    def frames(self) -> list[bytes]:
        return [m["body"] for m in self.sent if m["type"] == "http.response.body"]

    @property
    def ended(self) -> bool:
        return not self.sent[-1].get("more_body", True)


class Frames:
    """What there is to send; then nothing comes any more, or it ends."""

    def __init__(self, *frames: bytes, end: bool = True, error: Exception | None = None) -> None:
        self._frames = frames
        self._end = end
        self._error = error
        self.given = 0
        self.is_open = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncIterator[bytes]]:
        self.is_open = True
        try:
            yield self._iterate()
        finally:
            self.is_open = False

    async def _iterate(self) -> AsyncIterator[bytes]:
        for frame in self._frames:
            self.given += 1
            yield frame
        if self._error:
            raise self._error
        if not self._end:
            await asyncio.Event().wait()


def stream(
    frames: Frames, *, life: float = LONG, heartbeat: float = LONG, left: Callable[[], None] = lambda: None
) -> EventStream:
    return EventStream(frames.opened(), life=life, retry_ms=700, heartbeat=heartbeat, left=left)


async def run(answer: EventStream, client: Client, method: str = "GET") -> None:
    await answer({"type": "http", "method": method}, client.receive, client.send)


async def test_it_ends_after_the_last_frame() -> None:
    client, frames = Client(), Frames(b"one", b"two")
    await run(stream(frames), client)
    assert client.sent[0]["status"] == 200
    assert client.frames == [b"retry: 700\n\n", b"one", b"two", b""]
    assert client.ended
    assert not frames.is_open


async def test_it_ends_when_its_life_is_over() -> None:
    client, frames = Client(), Frames(b"one", end=False)
    await run(stream(frames, life=0.01), client)
    assert client.frames[-2:] == [b"one", b""]
    assert client.ended
    assert not frames.is_open


async def test_a_comment_keeps_the_connection_open_while_nothing_comes() -> None:
    client, frames = Client(), Frames(end=False)
    running = asyncio.create_task(run(stream(frames, heartbeat=0.001), client))
    await client.has(HEARTBEAT)
    client.gone.set()
    await running
    assert HEARTBEAT.startswith(b":")


async def test_it_stops_when_the_client_goes_away() -> None:
    client, frames = Client(), Frames(b"one", end=False)
    running = asyncio.create_task(run(stream(frames), client))
    await client.has(b"one")
    client.gone.set()
    await running
    assert not client.ended
    assert not frames.is_open


async def test_it_stops_when_the_request_is_cancelled() -> None:
    client, frames = Client(), Frames(b"one", end=False)
    running = asyncio.create_task(run(stream(frames), client))
    await client.has(b"one")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not frames.is_open
    assert len(asyncio.all_tasks()) == 1


async def test_a_client_that_does_not_read_stops_the_frames() -> None:
    client, frames = Client(), Frames(*([b"x"] * 1_000), end=False)
    running = asyncio.create_task(run(stream(frames), client))
    await client.has(b"x")
    client.reads.clear()
    before = frames.given
    for _ in range(100):
        await asyncio.sleep(0)
    assert frames.given <= before + 1
    client.gone.set()
    await running


async def test_a_client_that_does_not_read_does_not_hold_up_the_end_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.http.stream.END_S", 0.01)
    client, frames = Client(), Frames(b"x", b"y", end=False)
    running = asyncio.create_task(run(stream(frames, life=0.05), client))
    await client.has(b"x")
    client.reads.clear()
    await asyncio.wait_for(running, LONG)
    assert not frames.is_open


async def test_what_fails_is_raised() -> None:
    client, frames = Client(), Frames(b"one", error=RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        await run(stream(frames), client)
    assert not client.ended


async def test_nothing_is_sent_before_the_frames_have_opened() -> None:
    @asynccontextmanager
    async def refused() -> AsyncIterator[AsyncIterator[bytes]]:
        raise ValueError("no")
        yield

    client = Client()
    with pytest.raises(ValueError, match="no"):
        await run(EventStream(refused(), life=LONG, retry_ms=700), client)
    assert not client.sent


async def test_head_is_answered_without_a_stream() -> None:
    client, frames = Client(), Frames(b"one", end=False)
    await run(stream(frames), client, "HEAD")
    assert [m["type"] for m in client.sent] == ["http.response.start", "http.response.body"]
    assert client.ended
    assert frames.given == 0


@pytest.mark.parametrize("cancelled", [False, True], ids=["by itself", "by who serves it"])
async def test_it_says_when_the_client_left_before_the_end(cancelled: bool) -> None:
    client, left = Client(), asyncio.Event()
    running = asyncio.create_task(run(stream(Frames(b"one", end=False), left=left.set), client))
    await client.has(b"one")
    client.gone.set()
    if cancelled:  # as Serve does, which hears of it at the same time
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
    await asyncio.wait({running})
    assert left.is_set()


async def test_no_other_end_is_a_client_that_left() -> None:
    left = asyncio.Event()
    for life, end in ((LONG, True), (0.01, False)):
        await run(stream(Frames(b"one", end=end), life=life, left=left.set), Client())
    client = Client()
    running = asyncio.create_task(run(stream(Frames(b"one", end=False), left=left.set), client))
    await client.has(b"one")
    running.cancel()  # the server stops
    await asyncio.wait({running})
    assert not left.is_set()
