"""Reading a job back, and following it: each event once, in order, whatever gets lost on the way."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import pytest_asyncio

from actors.contracts.events import Completed, Delta, Outcome, Progress, Record, StepStarted, parse
from actors.contracts.messages import Packed
from actors.contracts.subjects import LIVE, Subject
from actors.journal import Journal, Link, Reader, Unanswered, follow
from actors.journal.append import MAX_MESSAGE
from actors.journal.follow import Follower, Place
from actors.journal.mailbox import MOST_ITEMS, Item
from actors.journal.read import PAGE, PAGE_BYTES
from actors.journal.topology import JOBS, ensure
from tests.integration.conftest import opened
from tests.lossy import relay
from tests.nats_servers import Servers
from tests.scribe import Scribe, new_address

BACKSTOP_S = 30.0
ANSWER = Packed(type="Note", body={"text": "done"})
CLAIM = {"stage": "write", "attempt": 1, "claim": "a", "worker": "w", "ack": "$JS.ACK.x"}


@pytest.fixture(autouse=True)
def never_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers do not find what they missed by looking into the log from time to time."""
    monkeypatch.setattr(follow, "IDLE_CHECK_S", 600.0)


@pytest_asyncio.fixture
async def scribe(journal: Journal) -> Scribe:
    return Scribe(journal.appender)


@pytest.fixture
def follower(journal: Journal) -> Follower:
    return Follower(journal.live, journal.reader)


async def a_job(scribe: Scribe, *, tokens: int = 5) -> None:
    """A whole job: a hand-off, a claim, deltas, progress, the outcome."""
    await scribe.hand_off("write")
    await scribe.write(StepStarted, **CLAIM)
    for at in range(tokens):
        await scribe.write(Delta, stage="write", text=f"{at} ", tokens=(at,), from_=at)
        if at % 2:
            await scribe.write(Progress, stage="write", message=f"at {at}")
    await scribe.write(Completed, origin=scribe.origin, answer=ANSWER)


async def read(journal: Journal, scribe: Scribe) -> list[Record]:
    return await journal.reader.job(scribe.address.tenant, scribe.address.job, at_least=scribe.chain.seq)


async def followed(follower: Follower, scribe: Scribe, after: Place | None = None) -> list[Item]:
    """What a reader gets, to the end."""
    async with (
        asyncio.timeout(BACKSTOP_S),
        follower.follow(scribe.address.tenant, scribe.address.job, after or Place()) as items,
    ):
        return [item async for item in items]


async def begun(follower: Follower, scribe: Scribe) -> asyncio.Task[list[Item]]:
    """A reader that already listens."""
    listens = asyncio.Event()

    async def read() -> list[Item]:
        items: list[Item] = []
        async with (
            asyncio.timeout(BACKSTOP_S),
            follower.follow(scribe.address.tenant, scribe.address.job, Place()) as stream,
        ):
            async for item in stream:
                items.append(item)
                listens.set()
        return items

    reading = asyncio.create_task(read())
    async with asyncio.timeout(BACKSTOP_S):
        await listens.wait()
    return reading


def unbroken(items: list[Item], *, after: int = 0) -> None:
    """Fails where the numbers have a hole, a repetition, or something after the outcome."""
    at = after
    for item in items:
        assert item.first_n == at + 1
        assert item.n >= item.first_n
        at = item.n
    assert [isinstance(item.event, Outcome) for item in items] == [False] * (len(items) - 1) + [True]


def text_of(items: list[Item]) -> str:
    return "".join(item.event.text for item in items if isinstance(item.event, Delta))


class Lagging(Reader):
    """Reads from a replica that does not have the newest messages, as many as a test says."""

    behind = 0

    async def page(self, tenant: str, job: str, *, after: int = 0) -> tuple[list[Record], bool]:
        page, more = await super().page(tenant, job, after=after)
        last = await self.last(tenant, job)
        if not self.behind or last is None:
            return page, more
        everything, _ = await super().page(tenant, job)
        hidden = {record.seq for record in everything[-self.behind :]}
        return [record for record in page if record.seq not in hidden], False


# Reading.


async def test_a_job_of_several_pages_is_read_whole_and_in_order(journal: Journal) -> None:
    scribes = [Scribe(journal.appender) for _ in range(2)]
    for scribe in scribes:
        await scribe.hand_off("write")
    for n in range(PAGE + 20):
        await asyncio.gather(*(scribe.write(Progress, stage="write", message=f"{n}") for scribe in scribes))
    for scribe in scribes:
        records = await read(journal, scribe)
        assert [record.event.n for record in records] == list(range(1, PAGE + 22))
        assert {record.subject.rpartition(".")[2] for record in records} == {scribe.address.job}
        half = records[PAGE // 2].seq
        rest = await journal.reader.job(scribe.address.tenant, scribe.address.job, after=half)
        assert [record.seq for record in rest] == [record.seq for record in records[PAGE // 2 + 1 :]]


async def test_a_job_of_large_messages_is_read_whole_in_pages_that_are_not_larger(journal_r1: Journal) -> None:
    address, last, count = new_address(), 0, 30
    for n in range(count):
        data = b"%06d" % n + b"x" * (MAX_MESSAGE - 6)
        last = await journal_r1.appender.append(address, "job", "step", data, expect=last)
    records = await journal_r1.reader.job(address.tenant, address.job)
    assert [int(record.data[:6]) for record in records] == list(range(count))
    page, more = await journal_r1.reader.page(address.tenant, address.job)
    assert more
    assert 0 < sum(len(record.data) for record in page) <= PAGE_BYTES


async def test_what_a_replica_does_not_have_yet_is_read_from_the_leader(journal: Journal, scribe: Scribe) -> None:
    await a_job(scribe)
    reader = Lagging(journal.replays)
    reader.behind = 4
    tenant, job = scribe.address.tenant, scribe.address.job
    assert len(await reader.job(tenant, job)) == scribe.chain.n - 4
    whole = await reader.job(tenant, job, at_least=scribe.chain.seq)
    assert [record.event.n for record in whole] == list(range(1, scribe.chain.n + 1))
    assert [record.data for record in whole] == [record.data for record in await read(journal, scribe)]


async def test_a_read_for_something_that_is_not_there_ends(journal: Journal, scribe: Scribe) -> None:
    await a_job(scribe)
    tenant, job = scribe.address.tenant, scribe.address.job
    assert len(await journal.reader.job(tenant, job, at_least=scribe.chain.seq + 1_000)) == scribe.chain.n
    nobody = new_address()
    assert await journal.reader.job(nobody.tenant, nobody.job, at_least=7) == []
    assert await journal.reader.last(nobody.tenant, nobody.job) is None


async def test_a_record_says_where_and_when_it_was_stored(journal: Journal, scribe: Scribe) -> None:
    written = await scribe.hand_off("write")
    (record,) = await read(journal, scribe)
    last = await journal.reader.last(scribe.address.tenant, scribe.address.job)
    (first,) = await journal.reader.after("job.write.standard.>", 0)
    for found in (record, last, first):
        assert found is not None
        assert found.event == written
        assert found.seq == scribe.chain.seq
        assert found.subject == f"job.write.standard.{scribe.address.tenant}.{scribe.address.job}"
        assert found.stored_at is not None
        assert abs((found.stored_at - written.at).total_seconds()) < 60
    assert await journal.reader.after("job.write.standard.>", scribe.chain.seq) == []


async def test_without_an_answer_there_is_no_guess(r1: Servers) -> None:
    async with opened(r1) as journal:
        scribe = Scribe(journal.appender)
        await a_job(scribe)
        await r1.kill()
        for _ in range(2):
            with pytest.raises(Unanswered):
                await journal.reader.job(scribe.address.tenant, scribe.address.job)
            with pytest.raises(Unanswered):
                await journal.reader.last(scribe.address.tenant, scribe.address.job)
        await r1.start()
        await journal.wait_until_up()
        assert len(await read(journal, scribe)) == scribe.chain.n


# Following.


async def test_a_reader_sees_what_was_and_what_comes(journal: Journal, scribe: Scribe, follower: Follower) -> None:
    await scribe.hand_off("write")
    reading = asyncio.create_task(followed(follower, scribe))
    await scribe.write(StepStarted, **CLAIM)
    for at in range(20):
        await scribe.write(Delta, stage="write", text=f"{at} ", tokens=(at,), from_=at)
    await scribe.write(Completed, origin=scribe.origin, answer=ANSWER)
    items = await reading
    unbroken(items)
    assert text_of(items) == "".join(f"{at} " for at in range(20))
    assert items[-1].seq == scribe.chain.seq
    assert items[-1].event == (await read(journal, scribe))[-1].event


async def test_a_reader_may_come_before_the_job(scribe: Scribe, follower: Follower) -> None:
    reading = asyncio.create_task(followed(follower, scribe))
    await asyncio.sleep(0)
    await a_job(scribe)
    unbroken(await reading)


async def test_a_reader_resumes_at_every_number_with_and_without_a_sequence(
    journal: Journal, scribe: Scribe, follower: Follower
) -> None:
    await a_job(scribe)
    records = await read(journal, scribe)
    for seen in records[:-1]:
        for place in (
            Place(seen.event.n, seen.seq),
            Place(seen.event.n),
            Place(seen.event.n, seen.seq + 1),
            Place(seen.event.n, 10**9),
        ):
            items = await followed(follower, scribe, place)
            assert [item.n for item in items] == list(range(seen.event.n + 1, scribe.chain.n + 1))
            assert [item.seq for item in items] == [r.seq for r in records[seen.event.n :]]


async def test_a_slow_reader_gets_larger_pieces_and_every_event(scribe: Scribe, follower: Follower) -> None:
    await scribe.hand_off("write")
    items: list[Item] = []
    async with (
        asyncio.timeout(BACKSTOP_S),
        follower.follow(scribe.address.tenant, scribe.address.job, Place()) as stream,
    ):
        items.append(await anext(stream))
        await scribe.write(StepStarted, **CLAIM)
        items.append(await anext(stream))
        for at in range(100):
            await scribe.write(Delta, stage="write", text=f"{at} ", tokens=(at,), from_=at)
        await scribe.write(Completed, origin=scribe.origin, answer=ANSWER)
        await follower._live.request("$JS.API.INFO")
        items += [item async for item in stream]
    unbroken(items)
    assert text_of(items) == "".join(f"{at} " for at in range(100))
    assert len(items) < 20


async def test_a_reader_whose_mailbox_overflows_reads_the_log_instead(scribe: Scribe, follower: Follower) -> None:
    await scribe.hand_off("write")
    items: list[Item] = []
    async with (
        asyncio.timeout(BACKSTOP_S),
        follower.follow(scribe.address.tenant, scribe.address.job, Place()) as stream,
    ):
        items.append(await anext(stream))
        (watch,) = follower._watches.values()
        (mailbox,) = watch.mailboxes
        for n in range(3 * MOST_ITEMS):
            await scribe.write(Progress, stage="write", message=f"{n}")
            assert len(mailbox) <= MOST_ITEMS
        await scribe.write(Completed, origin=scribe.origin, answer=ANSWER)
        await follower._live.request("$JS.API.INFO")
        assert len(mailbox) == 0, "it did not overflow"
        items += [item async for item in stream]
    unbroken(items)
    assert len(items) == scribe.chain.n


async def test_what_is_lost_on_the_way_is_read_from_the_log(r1: Servers) -> None:
    """Live messages are thrown away between server and client; the next one that arrives shows the hole."""
    async with opened(r1) as journal, relay(r1.url) as wire:
        live = await Link.open([wire.url], "lossy")
        follower, scribe = Follower(live, journal.reader), Scribe(journal.appender)
        await scribe.hand_off("write")
        reading = await begun(follower, scribe)
        await scribe.write(StepStarted, **CLAIM)
        for at in range(30):
            wire.deaf = at % 3 == 0
            wire.lost.clear()
            await scribe.write(Delta, stage="write", text=f"{at} ", tokens=(at,), from_=at)
            if wire.deaf:
                async with asyncio.timeout(BACKSTOP_S):
                    await wire.lost.wait()
        await scribe.write(Completed, origin=scribe.origin, answer=ANSWER)
        items = await reading
        unbroken(items)
        assert text_of(items) == "".join(f"{at} " for at in range(30))
        await live.close()


async def test_a_silent_loss_of_the_last_event_is_found_by_looking(
    r1: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "IDLE_CHECK_S", 0.2)
    async with opened(r1) as journal, relay(r1.url) as wire:
        live = await Link.open([wire.url], "lossy")
        follower, scribe = Follower(live, journal.reader), Scribe(journal.appender)
        await scribe.hand_off("write")
        async with (
            asyncio.timeout(BACKSTOP_S),
            follower.follow(scribe.address.tenant, scribe.address.job, Place()) as stream,
        ):
            await anext(stream)
            wire.deaf = True
            await scribe.write(Completed, origin=scribe.origin, answer=ANSWER)
            assert isinstance((await anext(stream)).event, Completed)
        await live.close()


async def test_a_stream_goes_on_over_a_kill_of_the_server(servers: Servers) -> None:
    async with opened(servers) as journal:
        follower, scribe = Follower(journal.live, journal.reader), Scribe(journal.appender)
        await scribe.hand_off("write")
        await scribe.write(StepStarted, **CLAIM)
        reading = asyncio.create_task(followed(follower, scribe))
        leader = await servers.leader_of(JOBS)
        for at in range(30):
            await scribe.write(Delta, stage="write", text=f"{at} ", tokens=(at,), from_=at)
            if at == 10:
                await servers.kill(leader)
                await servers.start(leader)
        await scribe.write(Completed, origin=scribe.origin, answer=ANSWER)
        items = await reading
        unbroken(items)
        assert text_of(items) == "".join(f"{at} " for at in range(30))


async def test_what_was_stored_while_the_reader_was_cut_off_is_not_lost(r1: Servers) -> None:
    async with opened(r1) as journal, relay(r1.url) as wire:
        live = await Link.open([wire.url], "lossy")
        follower, scribe = Follower(live, journal.reader), Scribe(journal.appender)
        await scribe.hand_off("write")
        reading = await begun(follower, scribe)
        await scribe.write(StepStarted, **CLAIM)
        wire.deaf = True
        for at in range(5):
            await scribe.write(Delta, stage="write", text=f"{at} ", tokens=(at,), from_=at)
        await scribe.write(Completed, origin=scribe.origin, answer=ANSWER)
        wire.cut()
        wire.deaf = False
        unbroken(await reading)
        await live.close()


@pytest.mark.parametrize("behind", [1, 3])
async def test_a_replica_that_lags_delays_no_reader(journal: Journal, scribe: Scribe, behind: int) -> None:
    """Neither one that comes when all is said, nor one that finds a hole."""
    reader = Lagging(journal.replays)
    reader.behind = behind
    await a_job(scribe)
    follower = Follower(journal.live, reader)
    unbroken(await followed(follower, scribe))

    another = Scribe(journal.appender)
    await another.hand_off("write")
    async with (
        asyncio.timeout(BACKSTOP_S),
        follower.follow(another.address.tenant, another.address.job, Place()) as stream,
    ):
        items = [await anext(stream)]
        await another.write(StepStarted, **CLAIM)
        (watch,) = follower._watches.values()
        (mailbox,) = watch.mailboxes
        await journal.live.request("$JS.API.INFO")
        mailbox._items.clear()  # lost
        await another.write(Progress, stage="write", message="on")
        await another.write(Completed, origin=another.origin, answer=ANSWER)
        items += [item async for item in stream]
    unbroken(items)


async def test_text_that_was_forgotten_is_one_gap(
    servers: Servers, journal: Journal, scribe: Scribe, follower: Follower
) -> None:
    await a_job(scribe, tokens=10)
    records = await read(journal, scribe)
    texts = [record.event.n for record in records if record.is_text]
    await journal.signals.api(f"STREAM.PURGE.{JOBS}", {"filter": f"text.*.*.*.{scribe.address.job}"})
    await servers.agree_on(JOBS)
    items = await followed(follower, scribe)
    unbroken(items)
    gaps = [item for item in items if item.event is None]
    assert [(gap.first_n, gap.n) for gap in gaps] == [(texts[0], texts[-1])]
    assert gaps[0].json == f'{{"n": {texts[-1]}, "from": {texts[0]}, "to": {texts[-1]}}}'
    for n in range(scribe.chain.n):
        resumed = await followed(follower, scribe, Place(n, records[n - 1].seq if n else 0))
        unbroken(resumed, after=n)


async def test_a_job_whose_beginning_is_gone_begins_with_a_gap(
    servers: Servers, journal: Journal, scribe: Scribe, follower: Follower
) -> None:
    await a_job(scribe)
    records = await read(journal, scribe)
    await journal.signals.api(f"STREAM.PURGE.{JOBS}", {"filter": scribe.address.filter, "seq": records[3].seq})
    await servers.agree_on(JOBS)
    items = await followed(follower, scribe)
    unbroken(items)
    assert (items[0].first_n, items[0].n, items[0].event) == (1, 3, None)


async def test_a_log_that_was_restored_on_other_sequences_is_followed_by_number(
    servers: Servers, journal: Journal, scribe: Scribe
) -> None:
    await a_job(scribe)
    before = await read(journal, scribe)
    await journal.signals.api(f"STREAM.PURGE.{JOBS}")
    await servers.agree_on(JOBS)
    other = Scribe(journal.appender)
    await other.hand_off("write")
    last = 0
    for record in before:
        subject = Subject.parse(record.subject)
        ttl = 60 if record.is_text else None
        last = await journal.appender.append(
            scribe.address, subject.kind, subject.topic, record.data, expect=last, ttl=ttl
        )
    follower = Follower(journal.live, journal.reader)
    scribe.chain = replace(scribe.chain, seq=last)
    after = await read(journal, scribe)
    assert {record.seq for record in after}.isdisjoint(record.seq for record in before)
    for seen in before[:-1]:
        items = await followed(follower, scribe, Place(seen.event.n, seen.seq))
        assert [item.n for item in items] == list(range(seen.event.n + 1, scribe.chain.n + 1))


async def test_bytes_that_are_no_event_are_a_gap(journal: Journal, scribe: Scribe, follower: Follower) -> None:
    await scribe.hand_off("write")
    garbage = b"\xff no event"
    seq = await journal.appender.append(scribe.address, "job", "step", garbage, expect=scribe.chain.seq)
    scribe.chain = scribe.chain.with_fact(seq, garbage)
    reading = asyncio.create_task(followed(follower, scribe))
    await scribe.write(Completed, origin=scribe.origin, answer=ANSWER)
    items = await reading
    unbroken(items)
    assert [(item.first_n, item.n) for item in items] == [(1, 1), (2, 2), (3, 3)]
    assert items[1].event is None


async def test_kinds_of_a_newer_version_are_passed_on(journal: Journal, scribe: Scribe, follower: Follower) -> None:
    await scribe.hand_off("write")
    newer = b'{"v":2,"n":2,"kind":"step.paused","by":"w/a","at":1795437015.5,"prev":""}'
    assert parse(newer).n == 2
    seq = await journal.appender.append(scribe.address, "job", "step", newer, expect=scribe.chain.seq)
    scribe.chain = scribe.chain.with_fact(seq, newer)
    await scribe.write(Completed, origin=scribe.origin, answer=ANSWER)
    items = await followed(follower, scribe)
    unbroken(items)
    assert [item.event.kind for item in items if item.event] == ["handoff", "step.paused", "completed"]


async def subscriptions(journal: Journal, scribe: Scribe) -> int:
    """How many of this connection's subscriptions are to the job's live copies."""
    live = LIVE + scribe.address.filter
    return sum(sub.subject == live for sub in journal.live.client._subs.values())


async def test_readers_of_a_job_share_one_subscription_and_the_last_one_ends_it(
    journal: Journal, scribe: Scribe, follower: Follower
) -> None:
    await scribe.hand_off("write")

    async def one() -> list[Item]:
        return await followed(follower, scribe)

    reading = [asyncio.create_task(one()) for _ in range(25)]
    async with follower.follow(scribe.address.tenant, scribe.address.job, Place()) as stream:
        await anext(stream)
        assert follower.watched == 1
        assert await subscriptions(journal, scribe) == 1
        for task in reading[:5]:
            task.cancel()
        await asyncio.wait(reading[:5])
    await a_job_goes_on(scribe)
    for items in await asyncio.gather(*reading[5:]):
        unbroken(items)
    assert follower.watched == 0
    assert await subscriptions(journal, scribe) == 0
    unbroken(await followed(follower, scribe))
    assert await subscriptions(journal, scribe) == 0


async def a_job_goes_on(scribe: Scribe) -> None:
    await scribe.write(StepStarted, **CLAIM)
    await scribe.write(Delta, stage="write", text="x", tokens=(1,), from_=0)
    await scribe.write(Completed, origin=scribe.origin, answer=ANSWER)


async def test_readers_that_come_and_go_at_any_moment_leave_nothing_behind(
    journal: Journal, scribe: Scribe, follower: Follower
) -> None:
    await scribe.hand_off("write")

    async def glance(steps: int) -> None:
        task = asyncio.create_task(followed(follower, scribe))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})

    async def whole() -> None:
        unbroken(await followed(follower, scribe))

    staying = [asyncio.create_task(whole()) for _ in range(3)]
    await asyncio.gather(*(glance(steps) for steps in range(40)))
    await a_job_goes_on(scribe)
    await asyncio.gather(*staying)
    assert follower.watched == 0
    assert await subscriptions(journal, scribe) == 0


async def test_a_slow_reader_does_not_slow_the_others(journal: Journal, scribe: Scribe, follower: Follower) -> None:
    await scribe.hand_off("write")
    async with follower.follow(scribe.address.tenant, scribe.address.job, Place()) as slow:
        await anext(slow)
        reading = asyncio.create_task(followed(follower, scribe))
        for n in range(2 * MOST_ITEMS):
            await scribe.write(Progress, stage="write", message=f"{n}")
        await scribe.write(Completed, origin=scribe.origin, answer=ANSWER)
        unbroken(await reading)


async def test_a_reader_without_a_connection_is_told_so(r1: Servers) -> None:
    async with opened(r1) as journal:
        follower, scribe = Follower(journal.live, journal.reader), Scribe(journal.appender)
        await r1.kill()
        with pytest.raises(Unanswered):
            async with follower.follow(scribe.address.tenant, scribe.address.job, Place()):
                pass
        assert follower.watched == 0
        await r1.start()
        await journal.wait_until_up()
        await ensure(journal.signals, ())
        await a_job(scribe)
        unbroken(await followed(follower, scribe))
