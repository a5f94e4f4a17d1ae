from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from actors.runtime.pacing import MIN_GAP_S, TEXTS_IN_FLIGHT, Pace, TextLanes

BACKSTOP_S = 10.0


class Slow:
    """Appends that end when the test says so."""

    def __init__(self) -> None:
        self.under_way: dict[str, asyncio.Event] = {}
        self.most = 0
        self._begun = asyncio.Event()

    async def append(self, name: str) -> None:
        self.under_way[name] = asyncio.Event()
        self.most = max(self.most, len(self.under_way))
        self._begun.set()
        await self.under_way[name].wait()
        del self.under_way[name]

    async def begun(self, count: int) -> list[str]:
        """Wait until so many are under way."""
        async with asyncio.timeout(BACKSTOP_S):
            while len(self.under_way) < count:
                self._begun.clear()
                await self._begun.wait()
        return list(self.under_way)


class Time:
    """The loop's clock, stopped; a sleep moves it on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@asynccontextmanager
async def turns(*paces: Pace, slow: Slow) -> AsyncIterator[list[asyncio.Task[None]]]:
    async def take(pace: Pace, name: str) -> None:
        async with pace.turn():
            await slow.append(name)

    tasks = [asyncio.create_task(take(pace, str(i))) for i, pace in enumerate(paces)]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()


async def test_a_process_has_so_many_texts_in_flight_and_no_more() -> None:
    lanes, slow = TextLanes(), Slow()
    async with turns(*(lanes.pace() for _ in range(10)), slow=slow) as tasks:
        for ended in range(10):
            under_way = await slow.begun(min(TEXTS_IN_FLIGHT, 10 - ended))
            slow.under_way[under_way[0]].set()
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            tasks = [task for task in tasks if not task.done()]
    assert slow.most == TEXTS_IN_FLIGHT == 4


async def test_jobs_have_their_turns_in_the_order_in_which_they_asked() -> None:
    lanes, slow, order = TextLanes(at_once=1), Slow(), []
    async with turns(*(lanes.pace() for _ in range(5)), slow=slow) as tasks:
        for _ in range(5):
            (name,) = await slow.begun(1)
            order.append(name)
            slow.under_way[name].set()
            await asyncio.wait([tasks[int(name)]])
    assert order == ["0", "1", "2", "3", "4"]


async def test_a_jobs_first_text_goes_before_the_next_texts_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    time, lanes, slow, order = Time(monkeypatch), TextLanes(at_once=1), Slow(), []
    old, new = [lanes.pace() for _ in range(3)], [lanes.pace() for _ in range(2)]
    for pace in old:
        async with pace.turn():
            pass
    time.now += 1.0
    async with turns(*old, *new, slow=slow) as tasks:
        for _ in tasks:
            (name,) = await slow.begun(1)
            order.append(name)
            slow.under_way[name].set()
            await asyncio.wait([tasks[int(name)]])
    assert order == ["0", "3", "4", "1", "2"]


async def test_whoever_gives_up_waiting_holds_up_nobody() -> None:
    lanes, slow = TextLanes(at_once=1), Slow()
    async with turns(*(lanes.pace() for _ in range(3)), slow=slow) as tasks:
        await slow.begun(1)
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        slow.under_way["0"].set()
        await asyncio.wait([tasks[0]])
        assert await slow.begun(1) == ["2"]


async def test_whoever_gives_up_in_the_moment_of_its_turn_passes_it_on() -> None:
    lanes, slow = TextLanes(at_once=1), Slow()
    holding = lanes.pace().turn()
    await holding.__aenter__()
    async with turns(lanes.pace(), slow=slow) as (waiting,):
        await asyncio.sleep(0)
        await holding.__aexit__(None, None, None)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert slow.most == 0
    async with asyncio.timeout(BACKSTOP_S), lanes.pace().turn():
        pass


async def test_the_first_text_of_a_job_goes_at_once_and_the_next_leaves_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    time, pace = Time(monkeypatch), TextLanes().pace()
    async with pace.turn():
        pass
    assert time.slept == []
    async with pace.turn():
        pass
    assert time.slept == [pytest.approx(MIN_GAP_S)]


async def test_the_gap_is_twice_as_long_as_the_append_was(monkeypatch: pytest.MonkeyPatch) -> None:
    time, pace = Time(monkeypatch), TextLanes().pace()
    async with pace.turn():
        time.now += 0.5
    async with pace.turn():
        pass
    assert time.slept == [pytest.approx(1.0)]


async def test_what_the_engine_took_longer_for_needs_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    time, pace = Time(monkeypatch), TextLanes().pace()
    async with pace.turn():
        pass
    time.now += 1.0
    async with pace.turn():
        pass
    assert time.slept == []


async def test_jobs_do_not_wait_for_each_others_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    time, lanes = Time(monkeypatch), TextLanes()
    for _ in range(3):
        async with lanes.pace().turn():
            pass
    assert time.slept == []


@pytest.mark.parametrize("raised", [RuntimeError, asyncio.CancelledError])
async def test_a_turn_that_ends_badly_frees_its_lane(raised: Callable[[], BaseException]) -> None:
    lanes = TextLanes(at_once=1)
    with pytest.raises((RuntimeError, asyncio.CancelledError)):
        async with lanes.pace().turn():
            raise raised()
    async with asyncio.timeout(BACKSTOP_S), lanes.pace().turn():
        pass
