from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from actors.contracts.events import Delta, Progress
from actors.contracts.generation import FinishReason
from actors.journal.mailbox import MOST_HELD, MOST_ITEMS, MOST_TEXT, Item, Mailbox

AT = datetime(2026, 11, 23, tzinfo=UTC)


def delta(n: int, at: int, text: str = "x", tokens: int = 1, stage: str = "write", finish: bool = False) -> Item:
    ids = tuple(range(at, at + tokens))
    reason: FinishReason | None = "stop" if finish else None
    event = Delta(n=n, by="w/c", at=AT, stage=stage, text=text, tokens=ids, from_=at, finish_reason=reason)
    return Item(n, n, 10 * n, event)


def progress(n: int) -> Item:
    return Item(n, n, 10 * n, Progress(n=n, by="w/c", at=AT, stage="write", message="on"))


async def emptied(mailbox: Mailbox) -> list[Item | None]:
    found: list[Item | None] = []
    while len(mailbox):
        found.append(await mailbox.get())
    return found


async def test_deltas_that_wait_become_one_that_carries_the_last_ones_place() -> None:
    mailbox = Mailbox()
    mailbox.put(delta(3, 0, "Mill", 2))
    mailbox.put(delta(4, 2, "race", 1))
    mailbox.put(delta(5, 3, ".", 1, finish=True))
    (item,) = await emptied(mailbox)
    assert item is not None
    assert (item.first_n, item.n, item.seq) == (3, 5, 50)
    assert isinstance(item.event, Delta)
    assert (item.event.text, item.event.tokens, item.event.from_) == ("Millrace.", (0, 1, 2, 3), 0)
    assert item.event.finish_reason == "stop"
    assert json.loads(item.json) | {"at": ""} == {
        "n": 5, "at": "", "stage": "write", "from": 0, "text": "Millrace.", "finish_reason": "stop",
    }  # fmt: skip


async def test_what_does_not_go_on_stays_apart() -> None:
    mailbox = Mailbox()
    items = [
        delta(1, 0),
        progress(2),
        delta(3, 1),
        delta(5, 2),
        delta(6, 0, stage="polish"),
        delta(7, 0, stage="write"),
    ]
    for item in items:
        mailbox.put(item)
    assert await emptied(mailbox) == items


async def test_a_merged_piece_does_not_grow_without_end() -> None:
    mailbox = Mailbox()
    for n in range(4):
        mailbox.put(delta(n + 1, n, "x" * (MOST_TEXT // 2)))
    assert [len(item.event.text) for item in await emptied(mailbox)] == [MOST_TEXT, MOST_TEXT]  # type: ignore[union-attr]


async def test_too_much_is_let_go_and_the_log_is_read_instead() -> None:
    mailbox = Mailbox()
    for n in range(1, MOST_ITEMS + 1):
        mailbox.put(progress(n))
    assert len(mailbox) == MOST_ITEMS
    mailbox.put(progress(MOST_ITEMS + 1))
    mailbox.put(progress(MOST_ITEMS + 2))
    assert len(mailbox) == 0
    assert await mailbox.get() is None
    mailbox.put(progress(MOST_ITEMS + 3))
    assert (await mailbox.get()) == progress(MOST_ITEMS + 3)


async def test_too_much_text_is_let_go_too() -> None:
    mailbox, pieces = Mailbox(), MOST_HELD // MOST_TEXT
    for n in range(pieces):
        mailbox.put(delta(n + 1, n, "x" * MOST_TEXT))
        assert mailbox.held == (n + 1) * MOST_TEXT
    mailbox.put(delta(pieces + 1, pieces))
    assert (len(mailbox), mailbox.held) == (0, 0)
    assert await mailbox.get() is None


async def test_what_waits_is_shared_by_all_readers_and_what_is_taken_is_no_longer_held() -> None:
    mailboxes, items = (Mailbox(), Mailbox()), [delta(1, 0), delta(2, 1)]
    for item in items:
        for mailbox in mailboxes:
            mailbox.put(item)
    for mailbox in mailboxes:
        assert list(mailbox._items) == items
        assert all(waits is item for waits, item in zip(mailbox._items, items, strict=True))
        await mailbox.get()
        assert (len(mailbox), mailbox.held) == (0, 0)


async def test_a_reader_that_waits_is_woken() -> None:
    mailbox = Mailbox()
    waiting = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    mailbox.put(progress(1))
    assert await waiting == progress(1)
    waiting = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    mailbox.lost()
    assert await waiting is None


async def test_a_reader_that_stops_waiting_loses_nothing() -> None:
    mailbox = Mailbox()
    waiting = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    mailbox.put(progress(1))
    waiting.cancel()
    await asyncio.wait({waiting})
    assert await mailbox.get() == progress(1)


@given(st.lists(st.sampled_from("dpg!"), max_size=2 * MOST_ITEMS))
def test_whatever_comes_a_mailbox_is_bounded_and_keeps_the_order(comes: str) -> None:
    async def run() -> None:
        mailbox, n, at = Mailbox(), 0, 0
        given_out: list[int] = []
        for what in comes:
            if what == "g":
                if len(mailbox):
                    item = await mailbox.get()
                    assert item is not None
                    given_out += range(item.first_n, item.n + 1)
            elif what == "!":
                mailbox.lost()
                assert await mailbox.get() is None
            else:
                n += 1
                mailbox.put(delta(n, at) if what == "d" else progress(n))
                at += what == "d"
            assert len(mailbox) <= MOST_ITEMS
            assert mailbox.held == sum(item.size for item in mailbox._items)
        assert given_out == sorted(set(given_out))

    asyncio.run(run())
