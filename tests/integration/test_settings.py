"""What people set is kept, compared when it is set again, and seen by every process soon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from pydantic import BaseModel

from actors.journal import Journal, Unanswered
from actors.journal.journal import PatientJournal
from actors.journal.mirror import Mirror
from actors.journal.shelf import Entry, Outdated, Shelf
from actors.journal.topology import SETTINGS
from tests.integration.conftest import R1
from tests.nats_servers import Servers


class Note(BaseModel):
    text: str


def notes(journal: Journal) -> Shelf[Note]:
    return Shelf(journal.signals, "note", Note)


@R1
async def test_what_is_set_is_read_back_by_name(journal: Journal) -> None:
    shelf = notes(journal)
    assert await shelf.get("a") == Entry("a", None, 0)
    first = await shelf.put("a", Note(text="one"), expect=0)
    await shelf.put("b", Note(text="two"), expect=0)
    assert await shelf.get("a") == Entry("a", Note(text="one"), first)
    assert {e.name: e.value for e in await shelf.all()} == {"a": Note(text="one"), "b": Note(text="two")}
    assert await Shelf(journal.signals, "other", Note).all() == []


async def test_of_many_who_set_it_at_once_one_does(journal: Journal) -> None:
    shelf = notes(journal)
    tries = [shelf.put("a", Note(text=str(n)), expect=0) for n in range(20)]
    done = await asyncio.gather(*tries, return_exceptions=True)
    stored = [seq for seq in done if isinstance(seq, int)]
    assert len(stored) == 1
    assert [type(e) for e in done if not isinstance(e, int)] == [Outdated] * 19
    await shelf.put("a", Note(text="again"), expect=stored[0])
    with pytest.raises(Outdated):
        await shelf.put("a", Note(text="late"), expect=stored[0])


@R1
async def test_only_the_newest_is_kept_and_what_is_taken_away_can_be_set_again(journal: Journal) -> None:
    shelf, seq = notes(journal), 0
    for n in range(5):
        seq = await shelf.put("a", Note(text=str(n)), expect=seq)
    seq = await shelf.put("a", None, expect=seq)
    assert await shelf.get("a") == Entry("a", None, seq)
    assert await shelf.all() == []
    assert await shelf.since(0) == [Entry("a", None, seq)]
    assert await shelf.since(seq) == []
    assert (await journal.signals.api(f"STREAM.INFO.{SETTINGS}"))["state"]["messages"] == 1
    await shelf.put("a", Note(text="back"), expect=seq)
    assert [e.name for e in await shelf.all()] == ["a"]


@R1
async def test_more_than_a_page_of_them_are_read(journal: Journal) -> None:
    shelf = notes(journal)
    await asyncio.gather(*(shelf.put(f"n{n}", Note(text=str(n)), expect=0) for n in range(600)))
    assert len(await shelf.all()) == 600


@R1
async def test_what_nobody_understands_is_not_passed_over(journal: Journal) -> None:
    await Shelf(journal.signals, "note", Other).put("a", Other(number=1), expect=0)
    with pytest.raises(Unanswered, match="cannot be understood"):
        await notes(journal).all()


@R1
async def test_a_mirror_follows_what_is_set_and_taken_away(servers: Servers, journal: Journal) -> None:
    shelf = notes(journal)
    seq = await shelf.put("a", Note(text="one"), expect=0)
    mirror: Mirror[Note] = Mirror("note", Note)
    with pytest.raises(Unanswered):
        await mirror.look()
    async with PatientJournal(servers.urls, "mirror") as log, mirror.following(log):
        await until(mirror, lambda: mirror.values == {"a": Note(text="one")})
        assert mirror.age < 60
        await shelf.put("a", None, expect=seq)
        await shelf.put("b", Note(text="two"), expect=0)
        await until(mirror, lambda: mirror.values == {"b": Note(text="two")})


@R1
async def test_who_looks_sees_what_was_set_before(servers: Servers, journal: Journal) -> None:
    mirror: Mirror[Note] = Mirror("note", Note)
    async with PatientJournal(servers.urls, "mirror") as log, mirror.following(log):
        await until(mirror, lambda: mirror.age < 60)
        await notes(journal).put("a", Note(text="one"), expect=0)
        await mirror.look(oldest=0)
        assert mirror.values == {"a": Note(text="one")}


@R1
async def test_a_mirror_keeps_what_it_has_while_there_is_no_server_and_says_how_old_that_is(
    servers: Servers, journal: Journal
) -> None:
    await notes(journal).put("a", Note(text="one"), expect=0)
    now = [0.0]
    mirror: Mirror[Note] = Mirror("note", Note, clock=lambda: now[0])
    async with PatientJournal(servers.urls, "mirror") as log, mirror.following(log):
        await until(mirror, lambda: bool(mirror.values))
        await servers.kill()
        now[0] = 100.0
        with pytest.raises(Unanswered):
            await mirror.look()
        assert mirror.age == 100.0
        assert set(mirror.values) == {"a"}
        await servers.start()
        await until(mirror, lambda: mirror.age == 0.0)


class Other(BaseModel):
    number: int


async def until(mirror: Mirror[Note], wanted: Callable[[], bool]) -> None:
    """Until a look has found it so."""
    news = asyncio.Event()
    mirror.looked.append(news.set)
    async with asyncio.timeout(20):
        while not wanted():
            news.clear()
            await news.wait()
